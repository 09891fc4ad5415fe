"""The report of collaborative learning: that of every study, and what strategies cost beside how well nodes do."""

from pathlib import Path
from typing import Any

import numpy as np

from beamkd.report import study
from beamkd.report.collaborative_figures import (
    bytes_of,
    draw_bytes,
    draw_faults,
    draw_map,
    draw_nodes,
    draw_partitions,
    draw_rounds,
)
from beamkd.report.results import read_arrays, read_results
from beamkd.report.study_tables import label_of
from beamkd.report.tables import Cells, digits, percent

CAPTIONS = {
    "bytes.png": "Top-5 accuracy, mean over nodes and slots, against all bytes that cross links in all rounds; bars: "
    "standard error over seeds. The line joins the strategies than which no other is as accurate with fewer bytes; the "
    "dashed one is nodes that learn alone.",
    "rounds.png": "Top-5 accuracy on the test split over the rounds, mean over nodes, slots and seeds. Those with a "
    "single round are a point at its end.",
    "nodes.png": "Top-5 accuracy of each node, mean over slots and seeds; bars: standard error over seeds. Below: what "
    "the node sees, its network, and the windows that the first seed gives it.",
    "map.png": "The street from above, and where the windows of each node were, of the first seed. The base station "
    "stands at the origin.",
    "partitions.png": "Top-5 accuracy, mean over nodes and slots, as nodes' windows become more unlike; bars: standard "
    "error over seeds.",
    "faults.png": "Top-5 accuracy, percent, mean over nodes, slots and seeds, by what fails and how the centre "
    "aggregates.",
}
"""What stands below the figures."""

SHOWN = ("top5", "power_ratio")

WORK = ("GFLOP a node", "GFLOP at the centre")

SINGLE = ("teacher", "best_node")
"""Methods that are no strategy."""

LINKED = (0.99, 0.9)
"""Shares of the time in which nodes reach the centre."""

AT_NODES = ("local", "central_kd")
"""Strategies whose nodes' networks are set beside the teacher at the centre, where these are among the strategies."""


def write(folder: Path) -> None:
    """Write the report of the run in `folder`, with its figures.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = read_results(folder)
    names, grid = strategies_of(results), results["config"]["grid"]
    more: dict[str, Any] = {}
    if grid in ("strategies", "codecs") and any(bytes_of(results, name) for name in names):
        more["bytes.png"] = (draw_bytes, names)
    if grid == "strategies":
        more |= {"nodes.png": (draw_nodes, names), "rounds.png": (draw_rounds, names)}
    elif grid == "partitions":
        more["partitions.png"] = (draw_partitions, names)
    elif grid == "faults":
        more["faults.png"] = (draw_faults, names)
    more["map.png"] = (draw_map, read_arrays(folder))
    study.write(folder, more, CAPTIONS, tables)


def tables(results: dict[str, Any]) -> dict[str, Cells]:
    """What this report has beside those of every study."""
    found = {"What strategies cost": cost_rows(results), "Beams that nodes know, and others": known_rows(results)}
    found["Where to predict"] = deployment_rows(results)
    found["Nodes, as the first seed has them"] = node_rows(results)
    wrong = wrong_rows(results)
    found |= {"Nodes that said what was wrong in half of the rounds": wrong} if len(wrong) > 1 else {}
    left_out = [["Strategy", "Why it is left out"], *([name, why] for name, why in results["left_out"].items())]
    return found | ({"Left out": left_out} if len(left_out) > 1 else {})


def strategies_of(results: dict[str, Any]) -> list[str]:
    """Methods that are strategies."""
    return [name for name in results["methods"] if name not in SINGLE]


def cost_rows(results: dict[str, Any]) -> Cells:
    """Accuracy beside bytes, operations, seconds and energy of all rounds, means over seeds."""
    rows = [["Strategy", "Top-5", "Power", "Rounds", "kB up", "kB down", "kB between", *WORK, "s", "J"]]
    for name in strategies_of(results):
        method = results["methods"][name]
        rounds = method["rounds"]
        kilobytes = [digits(np.mean(method[f"bytes_{link}"]) / 1e3) for link in ("up", "down", "between")]
        work = [digits(rounds * np.mean(method["flops_nodes"]) / 1e9), digits(rounds * method["flops_centre"] / 1e9)]
        spent = [digits(np.mean(method[unit])) for unit in ("seconds", "joules")]
        said = [percent(method[metric]) for metric in ("top5", "power_ratio")]
        rows.append([label_of(results, name), *said, str(rounds), *kilobytes, *work, *spent])
    return rows


def known_rows(results: dict[str, Any]) -> Cells:
    """How often nodes come within two beams of the best one, percent, where they have learned from it and where not."""
    rows = [["Strategy", "known to the node", "unknown to it"]]
    for name in strategies_of(results):
        method = results["methods"][name]
        shares = [np.array(method[f"near_{part}"], float) for part in ("known", "unknown")]
        rows.append([label_of(results, name), *(_share(each) for each in shares)])
    return rows


def node_rows(results: dict[str, Any]) -> Cells:
    """A row a node."""
    rows = [["Node", "Sensor", "Network", "Windows", "Best beams"]]
    for number, node in enumerate(results["nodes"]):
        rows.append([str(number), node["sensor"], node["size"], str(node["windows"]), str(node["beams"])])
    return rows


def deployment_rows(results: dict[str, Any]) -> Cells:
    """The teacher at the centre, nodes' own networks, and these where the link is gone: accuracy, delay, bytes.

    A node sends the frame of each sensor, and hears the beams of all slots, a byte each; windows before the frame are
    known. Delays are means, by the rates of the run.
    """
    rates, methods, models = results["config"]["rates"], results["methods"], results["models"]
    frame, slots = sum(results["frame_bytes"].values()), len(methods["teacher"]["top5"][0])
    there = frame / rates["up"] + models["teacher"]["flops_per_window"] / rates["centre"] + slots / rates["down"]
    own = np.mean([models[f"{node['sensor']}_{node['size']}"]["flops_per_window"] for node in results["nodes"]])
    here = own / rates["node"]
    rows = [["Where", "Link", "Top-5", "Power", "ms", "bytes up a frame"]]

    def row(where: str, share: float, name: str) -> list[str]:
        sides = ([np.array(methods[side][metric]) for side in ("teacher", name)] for metric in SHOWN)
        mixed = [share * teacher + (1 - share) * own for teacher, own in sides]
        delay = share * there + (1 - share) * here
        return [where, f"{100 * share:g} %", *map(percent, mixed), digits(1e3 * delay), digits(share * frame)]

    rows.append(row("at the centre, all sensors", 1.0, "teacher"))
    for name in (name for name in AT_NODES if name in methods):
        label = label_of(results, name)
        rows.append(row(f"at the node ({label})", 0.0, name))
        rows += [row(f"at the centre, else at the node ({label})", share, name) for share in LINKED]
    return rows


def wrong_rows(results: dict[str, Any]) -> Cells:
    """Who said what is no number, far from others, or of an earlier round, in half of the rounds; mean over seeds."""
    rows = [["Strategy", "Node", "Rounds: no numbers", "far from all others'", "of an earlier round", "of"]]
    for name in strategies_of(results):
        method = results["methods"][name]
        counts = refused, far, stale = [np.mean(method[kind], 0) for kind in ("refused", "suspected", "stale")]
        for node in np.flatnonzero(np.maximum(refused + far, stale) >= method["rounds"] / 2):
            found = [digits(each[node]) for each in counts]
            rows.append([label_of(results, name), str(node), *found, str(method["rounds"])])
    return rows


def _share(values: np.ndarray) -> str:
    """Mean over seeds of what is a number, percent."""
    there = values[~np.isnan(values)]
    return f"{100 * there.mean():.1f}" if len(there) else "-"
