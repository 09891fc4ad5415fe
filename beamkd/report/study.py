"""The report of a study: claims, tables and figures from its results.json."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from beamkd.base import InputError
from beamkd.report.figures import save_figure
from beamkd.report.page import write_report
from beamkd.report.results import data_source, read_results, time_section, windows_and_seeds
from beamkd.report.study_figures import draw_accuracy, draw_differences, draw_sweeps
from beamkd.report.study_tables import (
    SHOWN,
    claim_rows,
    claim_slot_rows,
    compared,
    method_tables,
    size_tables,
    slot_rows,
)
from beamkd.report.tables import COLUMNS, Cells, latex_table, markdown_table, terminal_table

NOTES = {
    "claims": "Difference: the first side minus the second in percentage points, paired by seed and test drive, mean "
    "over slots, with its 95 % bootstrap interval over seeds and drives. Confirmed: all of the interval is above minus "
    "the margin; refuted: all of it is below; else, or with fewer than five seeds or drives: open. Each interval is of "
    "one comparison: of many, one in twenty misses by chance. Power: received power over the best beam's. (A to B): "
    "minus the distance of A from B, by seed and slot; the nearer, the more.",
    "methods": "Percent, mean over slots; ± is the standard error over seeds, on these test drives. Δ: difference to "
    "the table's first method in points, paired by seed and test drive, with its 95 % bootstrap interval over both. "
    "Data-free: has seen no real window, label or validation score.",
}
"""What stands above the tables."""

CAPTIONS = {
    "accuracy.png": "Accuracy by slot on the test split, methods of the first table; bars: standard error over seeds. "
    "Arrows with a number stand for what lies below the axis.",
    "differences.png": "Difference to the table's first method, paired by seed and test drive, mean over slots, with "
    "95 % bootstrap intervals over both. Bars with an arrow go on beyond the axis, to the number beside them.",
    "sweeps.png": "Difference to the teacher, paired by seed and test drive, mean over slots, with 95 % bootstrap "
    "intervals over both.",
}
"""What stands below the figures."""

LEFT_BEHIND = ("by_drive", "nodes")
"""What methods have that kept tables do without."""

SIDE_BY_SIDE = 24
"""Methods, at most, whose accuracy is drawn in one figure."""

KEPT_DECIMALS = 6
"""Of shares, in the tables that are kept: a ten-thousandth of a point."""


Tables = Callable[[dict[str, Any]], dict[str, Cells]]
"""Of results, further tables by title."""

Figure = tuple[Callable[..., Any], Any]
"""draw(results, content) -> a figure, and the content; without any content there is none."""

TITLES = {
    "multimodal": "Several sensors",
    "longterm": "Long-term tracking with short inputs",
    "collaborative": "Collaborative learning",
    "privacy": "What a teacher's owner gives away",
}
"""Of reports, by experiment."""


def write(
    folder: Path,
    more: Mapping[str, Figure] | None = None,
    captions: Mapping[str, str] | None = None,
    tables: Tables = lambda results: {},
) -> None:
    """Write `report.md`, `report.html`, `report.tex` and the figures of the study in `folder`.

    Args:
      folder: of the run.
      more: figures by file name that stand ahead of those of every study.
      captions: what stands below these.
      tables: of results, by title; they stand behind the methods.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = _results(folder)
    drawn = {**(more or {})}
    first = [table for table in results["tables"][:1] if len(table["methods"]) <= SIDE_BY_SIDE]
    drawn |= {"accuracy.png": (draw_accuracy, first)}
    drawn["differences.png"] = (draw_differences, [table for table in results["tables"] if compared(table)])
    drawn["sweeps.png"] = (draw_sweeps, results["sweeps"])
    figures = [name for name, (_, content) in drawn.items() if content]
    for name in figures:
        draw, content = drawn[name]
        save_figure(folder / name, draw(results, content))
    claims, methods = claim_rows(results), method_tables(results)
    shown = {name: ({**CAPTIONS, **(captions or {})})[name] for name in figures}
    write_report(folder, _markdown(results, claims, methods, shown, tables(results)), figures)
    (folder / "report.tex").write_text(_latex(claims, methods))


def keep(folder: Path, path: Path, tables: Tables = lambda results: {}) -> None:
    """Write the tables of the study in `folder` to `path`, Markdown, and what they are made of beside it, JSON.

    Sums by drive, single nodes and the times of phases stay behind.
    """
    results = _results(folder)
    results["methods"] = {
        name: {metric: rows for metric, rows in method.items() if metric not in LEFT_BEHIND}
        for name, method in results["methods"].items()
    }
    results["test_drives"] = {"number": results["test_drives"]["number"]}
    results = keep_rounded(path, results)
    path.write_text(_markdown(results, claim_rows(results), method_tables(results), {}, tables(results)))


def keep_rounded(path: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Write results to the JSON file beside `path`, rounded, folders of data by their names alone, and give them so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = results["config"]
    results = results | {"config": config | {"data_dir": [Path(own).name for own in config.get("data_dir", ())]}}
    results = json.loads(json.dumps(results), parse_float=lambda digits: round(float(digits), KEPT_DECIMALS))
    path.with_suffix(".json").write_text(json.dumps(results) + "\n")
    return results


def console_tables(folder: Path) -> list[Table]:
    """Claims and the main table of the study in `folder`, for a terminal."""
    results = _results(folder)
    claims = [[row[0], *row[2:]] for row in claim_rows(results)]
    found = {"Claims: difference in percentage points, 95 % interval": claims} if len(claims) > 1 else {}
    for title, rows in list(method_tables(results).items())[:1]:
        kept = [0, 1, *(rows[0].index(COLUMNS[metric]) for metric in SHOWN), -2, -1]
        short = [[row[column] for column in kept] for row in rows]  # a terminal has no room for more
        found[f"{title}: percent; Δ: difference to the first method, 95 % interval"] = short
    return [terminal_table(title, rows, left=2, wrap=2) for title, rows in found.items()]


def _results(folder: Path) -> dict[str, Any]:
    results = read_results(folder)
    if "test_drives" not in results:
        raise InputError(f"{folder}: expected results by test drive, found none (a study of an earlier version)")
    return results


def _markdown(
    results: dict[str, Any],
    claims: Cells,
    methods: dict[str, Cells],
    figures: dict[str, str],
    more: dict[str, Cells],
) -> str:
    title = TITLES.get(results["experiment"], "Study of data-free distillation")
    grid = results["config"].get("grid")
    parts = [f"# {title}, grid '{grid}'" if grid else f"# {title}"]
    parts.append(f"Data: {data_source(results)} {windows_and_seeds(results)} {_carried(results)}")
    if len(claims) > 1:
        parts += ["## Claims", NOTES["claims"], markdown_table(claims, left=4)]
    parts += ["## Methods", NOTES["methods"]]
    for title, rows in methods.items():
        parts += [f"### {title}", markdown_table(rows, left=2)]
    for title, rows in more.items():
        parts += [f"## {title}", markdown_table(rows)]
    if results["tables"]:
        for metric in COLUMNS:
            parts += [f"## {COLUMNS[metric]} by slot, percent", markdown_table(slot_rows(results, metric))]
    if len(claims) > 1:
        by_slot = markdown_table(claim_slot_rows(results), left=3)
        parts += ["## Claims by slot", "Differences in percentage points, as above.", by_slot]
    for title, rows in size_tables(results).items():
        parts += [f"## {title}: weights and FLOPs", markdown_table(rows)]
    parts += [f"![{caption}]({name})\n\n{caption}" for name, caption in figures.items()]
    return "\n\n".join([*parts, *time_section(results["seconds"])]) + "\n"


def _carried(results: dict[str, Any]) -> str:
    """How many drives the claims rest on."""
    drives, tested = len(results["test_drives"]["number"]), results["data"]["drives"]["test"]
    if results["config"]["split"] == "inorder":
        return f"All figures are on the test split: all seeds share its {drives} drives, on which every claim rests."
    return (
        f"All figures are on the test splits, {tested} drives a seed; every claim rests on the {drives} of all seeds."
    )


def _latex(claims: Cells, methods: dict[str, Cells]) -> str:
    """Tables for LaTeX to input."""
    found = [r"% Needs \usepackage{booktabs}"]
    if len(claims) > 1:
        columns = r"lp{0.27\textwidth}p{0.21\textwidth}lrrl"
        found.append(latex_table(claims, columns, f"Claims. {NOTES['claims']}", "tab:study-claims"))
    for index, (title, rows) in enumerate(methods.items(), 1):
        columns = "ll" + "r" * (len(rows[0]) - 2)
        found.append(latex_table(rows, columns, f"{title}. {NOTES['methods']}", f"tab:study-methods-{index}"))
    return "\n\n".join(found) + "\n"
