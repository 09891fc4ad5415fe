"""The report of exported networks: what each file is, and what it costs beside its accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from rich.table import Table

from beamkd.report.figures import clean_axes, save_figure
from beamkd.report.page import write_report
from beamkd.report.results import data_source, read_results, time_section
from beamkd.report.tables import Cells, markdown_table, span, terminal_table

SAVINGS = "savings.png"
"""The picture of what predictions save."""

CAPTION = (
    "What predictions save, means over slots and seeds. Left: received power of sweeps of the most probable beams, "
    "over the best beam's. Middle: spectral efficiency less what the sweep takes; all beams, at its right end, are "
    "today's sweep. Right: beams of a sweep that follows the probabilities and is to receive what a fixed one does "
    "(rings), with 95 % bootstrap intervals over seeds and test drives; left of the ring it saves."
)


def write(folder: Path) -> None:
    """Write `report.md` and `report.html` of the run in `folder`.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = read_results(folder)
    save_figure(folder / SAVINGS, draw_savings(results["savings"]))
    write_report(folder, _markdown(results), [SAVINGS])


def console_table(folder: Path) -> Table:
    """What each file is and does, as a table for a terminal."""
    return terminal_table("Files, on one core without JAX", _file_rows(read_results(folder)))


def _markdown(results: dict[str, Any]) -> str:
    networks = [["Network", "Weights", "FLOPs a window"]]
    for name in results["savings"]:  # of one seed
        cost = results["models"][name]
        networks.append([name, f"{cost['parameters']:,}", f"{cost['flops_per_window']:,.0f}"])
    parts = [
        "# Networks for a box beside the road",
        f"Data: {data_source(results)} int8 files are calibrated on simulated windows alone.",
        "## Files",
        "Top-5: percent of test windows, mean over slots, by JAX and by the file. Time: of a call with one window, on "
        "one core, median and 99 in 100. MiB: the most memory that a process has, with Python, NumPy and ONNX "
        "Runtime. Furthest: the greatest difference of a logit from JAX's, on windows of the test split, of simulated "
        "streets of all kinds, and of sparse random numbers.",
        markdown_table(_file_rows(results)),
        "Beside each there is NAME.stream.onnx, which takes a frame at a time, and NAME.stablehlo.",
        "## What int8 costs",
        "Difference in Top-5 to float32, in points, with an interval over seeds and test drives.",
        markdown_table(_claim_rows(results)),
        "## What predictions save",
        f"![{CAPTION}]({SAVINGS})",
        CAPTION,
        "A sweep of so many beams in place of all: received power over the best beam's, share of windows more than "
        "3 dB below it, and spectral efficiency at 20 dB less what the sweep takes (a beam in 5 ms / 64, every 20 ms).",
        *(
            part
            for name, saved in results["savings"].items()
            for part in (f"### {name}", markdown_table(_sweep_rows(saved)), _prediction_text(saved))
        ),
        "A sweep may follow the probabilities: in each window as many beams as hold a share that was chosen on the "
        "validation split, so that on average it receives what a fixed sweep does. Mean number of beams, and received "
        "power less the fixed sweep's in points, on the test split, with intervals over seeds and test drives:",
        markdown_table(_adaptive_rows(results["savings"])),
        "## Networks",
        markdown_table(networks),
        *time_section(results["seconds"]),
    ]
    return "\n\n".join(parts) + "\n"


def draw_savings(savings: dict[str, Any]) -> plt.Figure:
    """Received power and spectral efficiency by length of a sweep, and sweeps that follow the probabilities."""
    figure, (power, rate, adaptive) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for place, (name, saved) in enumerate(savings.items()):
        fixed, colour = saved["fixed"], f"C{place}"
        power.plot(fixed["beams"], 100 * np.array(fixed["power_ratio"]), "o-", color=colour, label=name)
        rate.plot(fixed["beams"], fixed["spectral_efficiency"], "o-", color=colour)
        _draw_adaptive(adaptive, saved["adaptive"], (len(savings) - 1) / 2 - place, colour)
    beams = next(iter(savings.values()))["fixed"]["beams"]
    for axes, title in ((power, "received power, % of the best beam's"), (rate, "spectral efficiency, bit/s/Hz")):
        axes.set_xscale("log")
        axes.set_xticks(beams, map(str, beams))
        axes.minorticks_off()
        axes.set(xlabel="beams in a sweep", title=title)
    kept = next(iter(savings.values()))["adaptive"]
    adaptive.set_yticks(range(len(kept)), [f"as a sweep of {k}" for k in kept])
    adaptive.set(xlabel="beams in a sweep, mean", title="as much power, following the probabilities")
    adaptive.set_xlim(0, None)
    for axes in (power, rate, adaptive):
        clean_axes(axes)
    power.legend(loc="lower right")
    return figure


def _draw_adaptive(axes: Axes, found: dict[str, Any], shift: float, colour: str) -> None:
    """A row a fixed sweep: a ring for it, and a dot for the one that follows the probabilities."""
    for row, (k, adaptive) in enumerate(found.items()):
        mean, low, high = (np.nan if value is None else value for value in adaptive["beams"])
        place = row + 0.18 * shift
        axes.plot(int(k), place, "o", markersize=11, markerfacecolor="none", color="#888888", zorder=2)
        axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color=colour, capsize=3, zorder=3)


def _file_rows(results: dict[str, Any]) -> Cells:
    rows = [["File", "Bytes", "Top-5, JAX", "Top-5, file", "µs", "µs, 99 %", "MiB", "Furthest"]]
    for forms in results["exports"].values():
        for found in forms.values():
            before, after = (f"{100 * np.mean(found[f'top5_{when}']):.1f}" for when in ("before", "after"))
            times = [f"{found[f'{share}_us']:,.0f}" for share in ("p50", "p99")]
            rest = [f"{found['peak_bytes'] / 2**20:,.0f}", f"{max(found['max_error'].values()):.1g}"]
            rows.append([found["file"], f"{found['bytes']:,}", before, after, *times, *rest])
    return rows


def _claim_rows(results: dict[str, Any]) -> Cells:
    rows = [["Network", "int8 − float32", "Seeds", "Drives", "At most 0.3 points"]]
    for claim in results["claims"]:
        if claim["metric"] == "top5":
            ends = span(claim["difference"], claim["low"], claim["high"])
            name = claim["better"].removesuffix("_int8")
            rows.append([name, ends, str(claim["seeds"]), str(claim["drives"]), claim["verdict"]])
    return rows


def _sweep_rows(saved: dict[str, Any]) -> Cells:
    fixed = saved["fixed"]
    rows = [["Sweep", *map(str, fixed["beams"])]]
    for title, name in (("Power, %", "power_ratio"), ("Outage, %", "outage")):
        rows.append([title, *(f"{100 * value:.1f}" for value in fixed[name])])
    return [*rows, ["bit/s/Hz", *(f"{value:.2f}" for value in fixed["spectral_efficiency"])]]


def _prediction_text(saved: dict[str, Any]) -> str:
    switches, error = saved["switches_per_second"], saved["calibration_error"]
    return (
        f"Its best beam is within 3 dB for {saved['horizon_slots']:.2f} slots, the current one included, and changes "
        f"{switches['predicted']:.1f} times a second (the true one {switches['best']:.1f}). Expected calibration error "
        f"{100 * error['before']:.1f} %; at the temperature of the teacher's answers on simulated windows "
        f"({np.mean(saved['temperature']):.2f}) {100 * error['after']:.1f} %."
    )


def _adaptive_rows(savings: dict[str, Any]) -> Cells:
    rows = [["Network", "Fixed", "Beams", "Power, points"]]
    for name, saved in savings.items():
        for k, found in saved["adaptive"].items():
            mean, *ends = found["beams"]
            low, high = ("-" if end is None else f"{end:.2f}" for end in ends)
            rows.append([name, k, f"{mean:.2f} [{low}, {high}]", span(*found["power"])])
    return rows
