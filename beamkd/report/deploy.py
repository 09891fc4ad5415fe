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
        "one core, median and 99 in 100. MiB: the most memory that a process has with Python, NumPy and ONNX Runtime. "
        "Furthest: the greatest difference of a logit from JAX's, on windows of the test split, of simulated streets "
        "of all kinds, and of random numbers.",
        markdown_table(_file_rows(results)),
        "Beside each there is NAME.stream.onnx, which takes a frame at a time, and NAME.stablehlo.",
        "## What int8 costs",
        "Difference in Top-5 to float32, in points, with an interval over seeds and test drives.",
        markdown_table(_claim_rows(results)),
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
