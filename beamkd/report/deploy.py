"""The report of exported networks: what each file is, and what it costs beside its accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from beamkd.report.page import write_report
from beamkd.report.results import data_source, read_results, time_section
from beamkd.report.tables import Cells, markdown_table, span, terminal_table


def write(folder: Path) -> None:
    """Write `report.md` and `report.html` of the run in `folder`.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    write_report(folder, _markdown(read_results(folder)), ())


def console_table(folder: Path) -> Table:
    """What each file is and does, as a table for a terminal."""
    return terminal_table("Files, on one core without JAX", _file_rows(read_results(folder)))


def _markdown(results: dict[str, Any]) -> str:
    networks = [["Network", "Weights", "FLOPs a window"]]
    for name, cost in results["models"].items():
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
