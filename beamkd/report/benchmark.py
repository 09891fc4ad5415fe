"""The report of a benchmark: tables and figures from its results.json."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from beamkd.report.benchmark_figures import DRAWN, draw_roofline, draw_scaling
from beamkd.report.figures import save_figure
from beamkd.report.page import write_report
from beamkd.report.results import read_results
from beamkd.report.tables import Cells, digits, markdown_table, terminal_table

LEGEND = (
    "ms: median a step, of one member. Spread: between the quartiles, in percent of it. Items: windows; frames for the "
    "simulator and for reading. Matmul: share of the FLOP/s of a large matrix product: on a CPU of a single "
    "one, which uses all cores, for devices share them; elsewhere of one on each device. MiB: arguments, results and "
    "temporaries of the program, on each device. Compile: seconds. PyTorch: its time over ours."
)
"""What the columns of the main table mean."""

MARKED = {
    "student_data_free": (
        "†",
        "Not the same work: PyTorch's step runs the frozen teacher, ours takes answers that the teacher gave once, "
        "before the first epoch. Case student_data_free_teacher is the same work.",
    ),
    "student_data_free_teacher": (
        "‡",
        "The same work: ours runs the frozen teacher within every step, too, and PyTorch's is its student_data_free.",
    ),
}
"""Marks of ratios to PyTorch by case, and what they mean."""

RECIPES = (
    "Recipe: settings of inversion and data-free distillation, as `python -m experiments.datafree --recipe NAME` has "
    "them: beamkd is ours, its default, and paper as published. Each run compiles all of its programs."
)
"""What stands below the table of the pipeline."""

ROUNDS, A_DAY = "rounds_", 96
"""How cases of collaborative learning begin; and rounds in a day, one in a quarter of an hour."""

CITIES = (1_000, 10_000)
"""Nodes of a small and of a large one."""

NEEDS = (
    "Computed, not measured: bytes of the ledger for one node, times nodes; seconds along the line through the times "
    f"above, on this machine; {A_DAY} rounds a day. Memory: the centre's own arrays and one round's messages of all."
)
"""What stands below the table of cities."""

MAIN, GROWTH, COLLABORATION, CITY, PIPELINE = (
    "Time and throughput",
    "How the simulator grows",
    "A round of collaborative learning",
    "What a city would need",
    "The whole data-free experiment, with compilation",
)
"""Titles of the tables."""

ROOMY = 11
"""Columns that fit a terminal of 120 characters with a space around each."""

APART = ("simulate_growth", "pipeline", ROUNDS)
"""Beginnings of cases with a table of their own."""


def write(folder: Path) -> None:
    """Write `report.md`, `report.html` and the figures of the benchmark in `folder`.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = read_results(folder)
    figures = {}
    if any(case in results["throughput"] for case in DRAWN):
        save_figure(folder / "scaling.png", draw_scaling(results))
        save_figure(folder / "roofline.png", draw_roofline(results))
        figures["scaling.png"] = "Windows a second against batch size, members and devices."
        figures["roofline.png"] = (
            "FLOP/s against FLOPs a byte, from the least to the greatest batch size. Lines: the large matrix product, "
            "and the rates at which memory and a small array are read and written. XLA counts bytes as if there were "
            "no caches: what fits into these may lie above memory's line."
        )
    write_report(folder, _markdown(results, figures), figures)


def console_tables(folder: Path) -> list[Table]:
    """The tables of the benchmark in `folder`, for a terminal."""
    results = read_results(folder)
    tables = []
    for title, rows in _tables(results).items():
        table = terminal_table(title, rows)
        if len(rows[0]) > ROOMY:
            table.padding = 0
        table.caption, table.caption_justify = "\n".join(_notes(title, results)) or None, "left"
        tables.append(table)
    return tables


def _markdown(results: dict[str, Any], figures: dict[str, str]) -> str:
    environment, rates = results["environment"], results["rates"]
    products = ", ".join(
        f"{digits(rate / 1e9)} GFLOP/s in {dtype}" for dtype, rate in rates["matmul_flops_per_second"].items()
    )
    cores = ", on all cores," if environment["backend"] == "cpu" else ""
    parts = [
        "# Benchmark",
        f"{environment['device_count']} × {environment['device_kind']}, {environment['cores']} CPU cores, "
        f"JAX {environment['jax']}. On one device: a large matrix product{cores} {products}; memory read and written "
        f"at {digits(rates['memory_bytes_per_second'] / 1e9)} GB/s.",
        LEGEND,
    ]
    for title, rows in _tables(results).items():
        parts += [f"## {title}", markdown_table(rows), *_notes(title, results)]
    parts += [f"![{text}]({name})\n\n{text}" for name, text in figures.items()]
    return "\n\n".join(parts) + "\n"


def _tables(results: dict[str, Any]) -> dict[str, Cells]:
    """All tables by title, the first row of each is its header."""
    throughput = results["throughput"]
    tables = {}
    if any(not case.startswith(APART) for case in throughput):
        tables[MAIN] = _main_table(results)
    if "simulate_growth" in throughput:
        tables[GROWTH] = _growth_table(throughput["simulate_growth"])
    rounds = {case.removeprefix(ROUNDS): points for case, points in throughput.items() if case.startswith(ROUNDS)}
    if rounds:
        tables[COLLABORATION] = _rounds_table(rounds)
    if any(len(points) > 1 for points in rounds.values()):
        tables[CITY] = _city_table(rounds)
    if "pipeline" in throughput:
        tables[PIPELINE] = _pipeline_table(throughput["pipeline"])
    return tables


def _notes(title: str, results: dict[str, Any]) -> list[str]:
    """Lines below a table."""
    if title == PIPELINE:
        return [RECIPES]
    if title == CITY:
        return [NEEDS]
    ratios = results.get("against", {}).get("ratios", {}) if title == MAIN else {}
    return [f"{mark} {text}" for case, (mark, text) in MARKED.items() if case in ratios]


def _main_table(results: dict[str, Any]) -> Cells:
    """A row a point; devices and types only where there are several, ratios only where there is a baseline."""
    named = [
        (case, point)
        for case, points in results["throughput"].items()
        if not case.startswith(APART)
        for point in points
    ]
    sizes = {"batch": "Batch", "members": "Members", "devices": "Devices", "dtype": "Type"}
    usual = {"devices": 1, "dtype": "float32"}
    sizes = {size: title for size, title in sizes.items() if {p[size] for _, p in named} != {usual.get(size)}}
    ratios = results.get("against", {}).get("ratios")
    measured = ["ms", "Spread", "Items/s", "GFLOP/s", "Matmul", "MiB", "Compile"]
    rows = [["Case", *sizes.values(), *measured, *(["PyTorch"] if ratios is not None else [])]]
    for case, point in named:
        low, high = point["quartiles"]
        cells = [
            case,
            *(str(point[size]) for size in sizes),
            digits(point["milliseconds"] / point["members"]),
            _percent((high - low) / point["milliseconds"]),
            digits(point["items_per_second"]),
            digits(point["flops_per_second"], 1e-9),
            _percent(_fraction_of_matmul(results, point)),
            digits(point["peak_bytes"], 2**-20),
            digits(point["compile_seconds"]),
        ]
        rows.append(cells if ratios is None else [*cells, _marked_ratio(case, ratios, point)])
    return rows


def _fraction_of_matmul(results: dict[str, Any], point: dict[str, Any]) -> float | None:
    """Of older results, too: they lack the product's rate, and took each device of a CPU to have all cores."""
    fraction = point["fraction_of_matmul"]
    counted = fraction is not None and "matmul_flops_per_second" not in point
    return fraction * point["devices"] if counted and results["environment"]["backend"] == "cpu" else fraction


def _marked_ratio(case: str, ratios: dict[str, list[dict[str, Any]]], point: dict[str, Any]) -> str:
    ratio, mark = _ratio(ratios.get(case, []), point), MARKED.get(case, ("", ""))[0]
    return digits(ratio) + mark * (ratio is not None)


def _ratio(ratios: list[dict[str, Any]], point: dict[str, Any]) -> float | None:
    same = ("batch", "members", "devices", "dtype")
    return next((entry["ratio"] for entry in ratios if all(entry[name] == point[name] for name in same)), None)


def _growth_table(points: list[dict[str, Any]]) -> Cells:
    sizes = ("drives", "walls", "boxes", "paths", "antennas")
    rows = [[*(name.capitalize() for name in sizes), "ms", "Frames/s", "µs a frame"]]
    for point in points:
        cells = [str(point[name]) for name in sizes]
        rate = point["items_per_second"]
        rows.append([*cells, *map(digits, (point["milliseconds"], rate, 1e6 / rate))])
    return rows


def _rounds_table(cases: dict[str, list[dict[str, Any]]]) -> Cells:
    rows = [["Strategy", "Nodes", "Devices", "Seconds", "ms a node", "kB up a node", "kB down a node", "Compile, s"]]
    for name, points in cases.items():
        for point in points:
            nodes, seconds = point["nodes"], point["milliseconds"] / 1e3
            sent = (point[f"bytes_{link}"] / nodes / 1e3 for link in ("up", "down"))
            values = (seconds, 1e3 * seconds / nodes, *sent, point["compile_seconds"])
            rows.append([name, str(nodes), str(point["devices"]), *map(digits, values)])
    return rows


def _city_table(cases: dict[str, list[dict[str, Any]]]) -> Cells:
    rows = [["Strategy", "Nodes", "Seconds a round", "GB up a day", "GB down a day", "MB at the centre"]]
    for name, points in cases.items():
        nodes = np.array([point["nodes"] for point in points])
        if len(nodes) < 2:
            continue
        slope, start = np.polyfit(nodes, [point["milliseconds"] / 1e3 for point in points], 1)
        most = points[int(nodes.argmax())]
        own = most["bytes_centre"] - most["bytes_up"]
        for city in CITIES:
            up, down = (most[f"bytes_{link}"] / most["nodes"] * city for link in ("up", "down"))
            values = (max(start, 0) + slope * city, A_DAY * up / 1e9, A_DAY * down / 1e9, (own + up) / 1e6)
            rows.append([name, f"{city:,}", *map(digits, values)])
    return rows


def _pipeline_table(points: list[dict[str, Any]]) -> Cells:
    rows = [["Recipe", "Seeds", "Devices", "Seconds", "Seconds a seed", "Compile, s"]]
    for point in points:
        values = (point["milliseconds"] / 1e3, point["seconds_per_seed"], point["compile_seconds"])
        recipe = point.get("recipe", "-")  # older results do not tell
        rows.append([recipe, str(point["members"]), str(point["devices"]), *map(digits, values)])
    return rows


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{digits(100 * share)} %"
