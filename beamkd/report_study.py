"""Tables and figures of a study, from its results.json: `python -m beamkd.report RUN` draws them again."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from rich.table import Table

from beamkd.base import InputError
from beamkd.report import (
    COLUMNS,
    _mean_and_error,
    _percent,
    _slot_names,
    clean_axes,
    data_source,
    latex_table,
    markdown_table,
    read_results,
    save_figure,
    terminal_table,
    time_section,
    windows_and_seeds,
)

Rows = list[list[str]]
"""Cells of a table; the first row is its header."""

SHOWN = ("top1", "top5")
"""Metrics of differences and figures."""

NOTES = {
    "claims": "Difference: the first side minus the second in percentage points, paired by seed and test drive, mean "
    "over slots, with its 95 % bootstrap interval over seeds and drives. Confirmed: all of the interval is above minus "
    "the margin; refuted: all of it is below; else, or with fewer than five seeds or drives: open. Each interval is of "
    "one comparison: of many, one in twenty misses by chance. Power: received power over the best beam's. (A to B): "
    "minus the distance of A from B, by seed and slot; the nearer, the more.",
    "methods": "Percent, mean over slots; ± is the standard error over seeds, on these test drives. Δ: difference to "
    "the table's teacher in points, paired by seed and test drive, with its 95 % bootstrap interval over both. "
    "Data-free: has seen no real window, label or validation score.",
}

CAPTIONS = {
    "accuracy.png": "Accuracy by slot on the test split, methods of the first table; bars: standard error over seeds. "
    "Arrows with a number stand for what lies below the axis.",
    "differences.png": "Difference to the table's teacher, paired by seed and test drive, mean over slots, with 95 % "
    "bootstrap intervals over both. Bars with an arrow go on beyond the axis, to the number beside them.",
    "sweeps.png": "Difference to the teacher, paired by seed and test drive, mean over slots, with 95 % bootstrap "
    "intervals over both.",
}

KEPT_DECIMALS = 6
"""Of shares, in the tables that are kept: a ten-thousandth of a point."""

COLOURS = ("#1f77b4", "#2ca02c", "#d62728", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#e377c2", "#bcbd22", "#555555")
MARKERS = "o^Dvp<h>d*"
REAL, DATA_FREE = "#7f9fbf", "#d62728"


def write(folder: Path) -> None:
    """Write `report.md`, `report.tex` and the figures of the study in `folder`.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = _results(folder)
    drawn = {"accuracy.png": (_draw_accuracy, results["tables"])}
    drawn["differences.png"] = (_draw_differences, [table for table in results["tables"] if _compared(table)])
    drawn["sweeps.png"] = (_draw_sweeps, results["sweeps"])
    figures = [name for name, (_, content) in drawn.items() if content]
    for name in figures:
        draw, content = drawn[name]
        save_figure(folder / name, draw(results, content))
    claims, methods = _claim_rows(results), _method_tables(results)
    (folder / "report.md").write_text(_markdown(results, claims, methods, figures))
    (folder / "report.tex").write_text(_latex(claims, methods))


def keep(folder: Path, path: Path) -> None:
    """Write the tables of the study in `folder` to `path`, Markdown, and what they are made of beside it, JSON.

    Sums by drive and the times of phases stay behind.
    """
    results = _results(folder)
    results["methods"] = {
        name: {metric: rows for metric, rows in method.items() if metric != "by_drive"}
        for name, method in results["methods"].items()
    }
    results["test_drives"] = {"number": results["test_drives"]["number"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(json.dumps(results), parse_float=lambda digits: round(float(digits), KEPT_DECIMALS))
    path.with_suffix(".json").write_text(json.dumps(results) + "\n")
    path.write_text(_markdown(results, _claim_rows(results), _method_tables(results), []))


def console_tables(folder: Path) -> list[Table]:
    """Claims and the main table of the study in `folder`, for a terminal."""
    results = _results(folder)
    claims = [[row[0], *row[2:]] for row in _claim_rows(results)]
    found = {"Claims: difference in percentage points, 95 % interval": claims} if len(claims) > 1 else {}
    for title, rows in list(_method_tables(results).items())[:1]:
        short = [[*row[:4], *row[-2:]] for row in rows]  # a terminal has no room for more
        found[f"{title}: percent; Δ: difference to the teacher, 95 % interval"] = short
    return [terminal_table(title, rows, left=2, wrap=2) for title, rows in found.items()]


def _results(folder: Path) -> dict[str, Any]:
    results = read_results(folder)
    if "test_drives" not in results:
        raise InputError(f"{folder}: expected results by test drive, found none (a study of an earlier version)")
    return results


def _markdown(results: dict[str, Any], claims: Rows, methods: dict[str, Rows], figures: list[str]) -> str:
    parts = [f"# Study of data-free distillation, grid '{results['config']['grid']}'"]
    parts.append(f"Data: {data_source(results)} {windows_and_seeds(results)} {_carried(results)}")
    if len(claims) > 1:
        parts += ["## Claims", NOTES["claims"], markdown_table(claims, left=4)]
    parts += ["## Methods", NOTES["methods"]]
    for title, rows in methods.items():
        parts += [f"### {title}", markdown_table(rows, left=2)]
    if results["tables"]:
        for metric in COLUMNS:
            parts += [f"## {COLUMNS[metric]} by slot, percent", markdown_table(_slot_rows(results, metric))]
    if len(claims) > 1:
        by_slot = markdown_table(_claim_slot_rows(results), left=3)
        parts += ["## Claims by slot", "Differences in percentage points, as above.", by_slot]
    for title, rows in _size_tables(results).items():
        parts += [f"## {title}: weights and FLOPs", markdown_table(rows)]
    parts += [f"![{CAPTIONS[name]}]({name})\n\n{CAPTIONS[name]}" for name in figures]
    return "\n\n".join([*parts, *time_section(results["seconds"])]) + "\n"


def _carried(results: dict[str, Any]) -> str:
    """How many drives the claims rest on."""
    drives, tested = len(results["test_drives"]["number"]), results["data"]["drives"]["test"]
    if results["config"]["split"] == "inorder":
        return f"All figures are on the test split: all seeds share its {drives} drives, on which every claim rests."
    return (
        f"All figures are on the test splits, {tested} drives a seed; every claim rests on the {drives} of all seeds."
    )


def _claim_rows(results: dict[str, Any]) -> Rows:
    """A row a claim and metric; what all rows of a claim share stands in the first alone."""
    rows, last = [["Claim", "Statement", "Comparison", "Metric", "Margin", "Difference", "Verdict"]], None
    for claim in results["claims"]:
        shared = [claim["claim"], claim["statement"], _comparison(results, claim)]
        found = _span(claim["difference"], claim["low"], claim["high"])
        judged = [COLUMNS[claim["metric"]], f"{100 * claim['margin']:.1f}", found, claim["verdict"]]
        rows.append([*(shared if shared != last else [""] * len(shared)), *judged])
        last = shared
    return rows


def _claim_slot_rows(results: dict[str, Any]) -> Rows:
    slots = len(results["claims"][0]["slots"]["difference"])
    rows = [["Claim", "Comparison", "Metric", *_slot_names(slots)]]
    for claim in results["claims"]:
        spans = map(_span, *(claim["slots"][end] for end in ("difference", "low", "high")))
        rows.append([claim["claim"], _comparison(results, claim), COLUMNS[claim["metric"]], *spans])
    return rows


def _comparison(results: dict[str, Any], claim: dict[str, Any]) -> str:
    """Both sides in labels; a side of two methods is how near the first is to the second."""
    sides = [[_label(results, name) for name in claim[side].split(" to ")] for side in ("better", "worse")]
    return " against ".join(side[0] if len(side) == 1 else f"({' to '.join(side)})" for side in sides)


def _method_tables(results: dict[str, Any]) -> dict[str, Rows]:
    """The study's tables by title, with a row a method."""
    header = ["Method", "Data-free", *COLUMNS.values(), *(f"Δ {COLUMNS[metric]}" for metric in SHOWN)]
    tables = {}
    for table in results["tables"]:
        tables[table["title"]], teacher = [header], _teacher(table)
        for name in table["methods"]:
            method, data_free = results["methods"][name], "yes" if name in results["data_free"] else "no"
            measured = [_percent(method[metric]) for metric in COLUMNS]
            ahead = ["–" if name == teacher else _span(*table["ahead"][name][metric]) for metric in SHOWN]
            tables[table["title"]].append([_label(results, name), data_free, *measured, *ahead])
    return tables


def _slot_rows(results: dict[str, Any], metric: str) -> Rows:
    """Accuracy of the first table's methods and the teacher by slot."""
    slots = range(len(results["methods"]["teacher"][metric][0]))
    rows = [["Method", *_slot_names(len(slots))]]
    for name in _beside_teacher(results["tables"][0]):
        values = np.asarray(results["methods"][name][metric])
        rows.append([_label(results, name), *(_percent(values[:, [slot]]) for slot in slots)])
    return rows


def _size_tables(results: dict[str, Any]) -> dict[str, Rows]:
    """Of the networks, and of the sweeps along which their size changes."""
    models, tables = results["models"], {}
    cost = {name: [f"{model['parameters']:,}", f"{model['flops_per_window']:,.0f}"] for name, model in models.items()}
    networks = [name for name in ("teacher", "student", "generator") if name in models]
    tables["Networks"] = [["Network", "Weights", "FLOPs a window"], *([name, *cost[name]] for name in networks)]
    for sweep in results["sweeps"]:
        if not set(sweep["methods"]) <= set(models) or len({cost[name][0] for name in sweep["methods"]}) == 1:
            continue
        metrics = (*SHOWN, "power_ratio")
        titles = [COLUMNS[metric] for metric in metrics]
        rows = [["Method", "Weights", "FLOPs a window", *titles, *(f"Δ {title}" for title in titles)]]
        for name in sweep["methods"]:
            measured = [_percent(results["methods"][name][metric]) for metric in metrics]
            ahead = [_span(*sweep["ahead"][name][metric]) for metric in metrics]
            rows.append([_label(results, name), *cost[name], *measured, *ahead])
        tables[sweep["title"]] = rows
    return tables


def _latex(claims: Rows, methods: dict[str, Rows]) -> str:
    """Tables for LaTeX to input."""
    found = [r"% Needs \usepackage{booktabs}"]
    if len(claims) > 1:
        columns = r"lp{0.27\textwidth}p{0.21\textwidth}lrrl"
        found.append(latex_table(claims, columns, f"Claims. {NOTES['claims']}", "tab:study-claims"))
    for index, (title, rows) in enumerate(methods.items(), 1):
        columns = "ll" + "r" * (len(rows[0]) - 2)
        found.append(latex_table(rows, columns, f"{title}. {NOTES['methods']}", f"tab:study-methods-{index}"))
    return "\n\n".join(found) + "\n"


def _span(difference: float, low: float | None, high: float | None) -> str:
    """A difference in points with its interval, which is unbounded where JSON has null."""
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return f"{_points(difference)} [{_points(low)}, {_points(high)}]"


def _points(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}".replace("-", "−").replace("inf", "∞")  # no −0.00


def _label(results: dict[str, Any], name: str) -> str:
    return results["labels"].get(name, name)


def _teacher(table: dict[str, Any]) -> str:
    """The method that the others of a table are compared with."""
    return table.get("teacher", "teacher")


def _compared(table: dict[str, Any]) -> list[str]:
    return [name for name in table["methods"] if name != _teacher(table)]


def _beside_teacher(table: dict[str, Any]) -> list[str]:
    return [_teacher(table), *_compared(table)]


def _whiskers(middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Lengths of error bars, [2, ...]; none where the interval has no bounds."""
    lengths = np.abs(np.stack([middle - low, high - middle]))
    return np.where(np.isfinite(lengths), lengths, np.nan)


def _floor(middle: np.ndarray, low: np.ndarray) -> float:
    """Where an axis of percentages may begin, so that a failed control does not flatten all others."""
    distance = np.median(middle) - middle
    return np.where(distance <= max(5, 8 * np.median(np.abs(distance))), low, np.inf).min()


def _draw_accuracy(results: dict[str, Any], tables: list[dict[str, Any]]) -> plt.Figure:
    names = _beside_teacher(tables[0])
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.6), layout="constrained")
    for axes, metric in zip(panels, SHOWN, strict=True):
        values = 100 * np.asarray([results["methods"][name][metric] for name in names], float)
        means, slots = values.mean(1), np.arange(values.shape[-1])
        errors = np.stack([_mean_and_error(results["methods"][name][metric])[1] for name in names])
        floor = _floor(means, means - errors) - 0.5
        for place, name in enumerate(names):
            across = slots + 0.84 * ((place + 0.5) / len(names) - 0.5)  # side by side
            style = _style(results, name, place)
            axes.errorbar(across, means[place], errors[place], linestyle="none", capsize=2, **style)
            for slot in np.flatnonzero(means[place] < floor):
                text = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 8, "color": style["color"]}
                axes.text(across[slot], floor, f"◀ {means[place, slot]:.1f}", **text)
        axes.set_ylim(bottom=floor)
        for edge in slots[1:] - 0.5:
            axes.axvline(edge, color="0.8", linewidth=0.8)
        axes.set_xticks(slots, ["current slot", *_slot_names(len(slots))[1:]])
        axes.set(xlim=(-0.5, len(slots) - 0.5), xlabel="slot predicted", ylabel=f"{COLUMNS[metric]} accuracy, %")
        clean_axes(axes)
        axes.grid(visible=False, axis="x")
    handles, labels = panels[0].get_legend_handles_labels()
    style = {"ncols": min(5, math.ceil(len(names) / 2)), "frameon": False}
    title = f"{tables[0]['title']}; filled: data-free; bars: standard error over seeds"
    figure.legend(handles, labels, loc="outside upper center", title=title, **style)
    return figure


def _style(results: dict[str, Any], name: str, place: int) -> dict[str, Any]:
    """Colour and marker of a method in a figure of several; filled if it is data-free."""
    teacher = name == "teacher"
    colour = "black" if teacher else COLOURS[place % len(COLOURS)]
    marker = "s" if teacher else MARKERS[place % len(MARKERS)]
    face = colour if name in results["data_free"] else "white"
    label = _label(results, name)
    return {"color": colour, "marker": marker, "markerfacecolor": face, "markersize": 6, "label": label}


def _draw_differences(results: dict[str, Any], tables: list[dict[str, Any]]) -> plt.Figure:
    counts = [len(_compared(table)) for table in tables]
    size = {"figsize": (12, 1.2 + 0.27 * sum(counts) + 0.55 * len(tables)), "layout": "constrained"}
    ratios = [count + 0.5 for count in counts]
    figure, panels = plt.subplots(len(tables), 2, sharex="col", squeeze=False, height_ratios=ratios, **size)
    cut = False
    for metric, column in zip(SHOWN, panels.T, strict=True):
        ahead = [np.array([table["ahead"][name][metric] for name in _compared(table)], float) for table in tables]
        middle, low, high = 100 * np.concatenate(ahead).T
        low, high = (np.where(np.isfinite(end), end, middle) for end in (low, high))
        floor, top = _floor(middle, np.minimum(low, 0)), max(high.max(), 0)
        cut |= (middle < floor).any()
        for axes, table, rows in zip(column, tables, ahead, strict=True):
            _draw_bars(axes, results, _compared(table), 100 * rows, floor)
        column[0].set_xlim(floor - 0.06 * (top - floor), top + 0.06 * (top - floor))
        column[-1].set_xlabel(f"{COLUMNS[metric]}: difference to the teacher, percentage points")
    for axes, right, table in zip(*panels.T, tables, strict=True):
        axes.set_title(table["title"], fontsize=10, fontweight="bold", loc="left")
        axes.set_yticks(range(len(_compared(table))), [_label(results, name) for name in _compared(table)], fontsize=9)
        right.set_yticks([])
    kinds = {"data-free": DATA_FREE, "with real data": REAL}
    handles = [Patch(color=colour, label=kind) for kind, colour in kinds.items()]
    title = (
        f"black: 95 % bootstrap interval over seeds and drives{'; ◀: goes on to the number beside it' if cut else ''}"
    )
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, title=title)
    return figure


def _draw_bars(axes: Axes, results: dict[str, Any], names: list[str], rows: np.ndarray, floor: float) -> None:
    """A bar a method: rows [methods, difference and its ends] in points; no bar reaches below the floor."""
    places, (middle, low, high) = np.arange(len(names)), rows.T
    colours = [DATA_FREE if name in results["data_free"] else REAL for name in names]
    style = {"ecolor": "black", "capsize": 2, "error_kw": {"elinewidth": 1}}
    axes.barh(places, middle, 0.7, color=colours, xerr=_whiskers(middle, low, high), alpha=0.85, **style)
    axes.axvline(0, color="black", linewidth=1)
    for place, value in zip(places, middle, strict=True):
        beside = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": 8}
        axes.annotate(_points(value / 100), (1.01, place), **beside)
        if value < floor:
            axes.annotate("◀", (0, place), color="white", **beside)
    axes.set_ylim(len(names) - 0.4, -0.6)
    clean_axes(axes)
    axes.grid(visible=False, axis="y")


def _draw_sweeps(results: dict[str, Any], sweeps: list[dict[str, Any]]) -> plt.Figure:
    columns = math.ceil(math.sqrt(len(sweeps)))
    lines = math.ceil(len(sweeps) / columns)
    size = {"figsize": (4.4 * columns + 0.4, 3.9 * lines + 0.5), "layout": "constrained"}
    figure, panels = plt.subplots(lines, columns, squeeze=False, **size)
    for axes, sweep in zip(panels.flat, sweeps, strict=False):
        for metric, colour, marker in zip(SHOWN, COLOURS, MARKERS, strict=False):
            middle, low, high = 100 * np.array([sweep["ahead"][name][metric] for name in sweep["methods"]], float).T
            style = {"color": colour, "marker": marker, "capsize": 3, "label": COLUMNS[metric]}
            axes.errorbar(sweep["values"], middle, _whiskers(middle, low, high), **style)
        axes.axhline(0, color="black", linewidth=1, linestyle="--", label="teacher")
        if sweep.get("log"):
            axes.set_xscale("log")
            ticks = [f"{value:,g}" for value in sweep["values"]]
            axes.set_xticks(sweep["values"], ticks, rotation=30 if max(map(len, ticks)) > 3 else 0)
            axes.minorticks_off()
        axes.set_title(sweep["title"], fontsize=10)
        axes.set_xlabel(sweep["axis"])
        clean_axes(axes)
    for axes in panels[:, 0]:
        axes.set_ylabel("difference to the teacher,\npercentage points")
    for axes in panels.flat[len(sweeps) :]:
        axes.remove()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    title = "bars: 95 % bootstrap intervals over seeds and drives"
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, title=title)
    return figure
