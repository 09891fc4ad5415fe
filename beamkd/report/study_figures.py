"""Figures of a study."""

import math
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from beamkd.report.figures import clean_axes
from beamkd.report.study_tables import SHOWN, beside_teacher, compared, label_of
from beamkd.report.tables import COLUMNS, mean_and_error, points, slot_names

COLOURS = ("#1f77b4", "#2ca02c", "#d62728", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#e377c2", "#bcbd22", "#555555")
MARKERS = "o^Dvp<h>d*"
"""Of methods side by side, in turn."""

REAL, DATA_FREE = "#7f9fbf", "#d62728"
"""Colours of bars, by what a method has seen."""

SHIFT = 3
"""Markers on, of the second method of a colour."""

LETTERS = 165
"""That fit in a line above a figure."""


def draw_accuracy(results: dict[str, Any], tables: list[dict[str, Any]]) -> plt.Figure:
    """Top-1 and top-5 accuracy by slot of the methods of the first table, with standard errors over seeds."""
    names = beside_teacher(tables[0])
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.6), layout="constrained")
    for axes, metric in zip(panels, SHOWN, strict=True):
        _draw_slots(axes, results, names, metric)
    handles, labels = panels[0].get_legend_handles_labels()
    columns = max(1, LETTERS // (max(map(len, labels)) + 6))  # a marker takes the room of six
    style = {"ncols": min(columns, 5, math.ceil(len(names) / 2)), "frameon": False, "fontsize": 9}
    title = f"{tables[0]['title']}; filled: data-free; bars: standard error over seeds"
    figure.legend(handles, labels, loc="outside upper center", title=title, **style)
    return figure


def _draw_slots(axes: Axes, results: dict[str, Any], names: list[str], metric: str) -> None:
    """A group of points a slot, side by side; what lies below the axis is an arrow with a number."""
    values = 100 * np.asarray([results["methods"][name][metric] for name in names], float)
    means, slots = values.mean(1), np.arange(values.shape[-1])
    errors = np.stack([mean_and_error(results["methods"][name][metric])[1] for name in names])
    floor = _floor(means, means - errors) - 0.5
    for place, name in enumerate(names):
        across = slots + 0.84 * ((place + 0.5) / len(names) - 0.5)
        style = _style(results, name, place)
        axes.errorbar(across, means[place], errors[place], linestyle="none", capsize=2, **style)
        for slot in np.flatnonzero(means[place] < floor):
            text = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 8, "color": style["color"]}
            axes.text(across[slot], floor, f"◀ {means[place, slot]:.1f}", **text)
    axes.set_ylim(bottom=floor)
    for edge in slots[1:] - 0.5:
        axes.axvline(edge, color="0.8", linewidth=0.8)
    axes.set_xticks(slots, ["current slot", *slot_names(len(slots))[1:]])
    axes.set(xlim=(-0.5, len(slots) - 0.5), xlabel="slot predicted", ylabel=f"{COLUMNS[metric]} accuracy, %")
    clean_axes(axes)
    axes.grid(visible=False, axis="x")


def style_of(place: int) -> dict[str, str]:
    """Colour and marker of a method by its place: no two of a hundred have both alike."""
    again, place = divmod(place, len(COLOURS))
    return {"color": COLOURS[place], "marker": MARKERS[(place + SHIFT * again) % len(MARKERS)]}


def _style(results: dict[str, Any], name: str, place: int) -> dict[str, Any]:
    """Colour and marker of a method in a figure of several; filled if it is data-free."""
    style = {"color": "black", "marker": "s"} if name == "teacher" else style_of(place)
    face = style["color"] if name in results["data_free"] else "white"
    return style | {"markerfacecolor": face, "markersize": 6, "label": label_of(results, name)}


def draw_differences(results: dict[str, Any], tables: list[dict[str, Any]]) -> plt.Figure:
    """Differences to the teacher: a panel a table and metric, a bar a method."""
    counts = [len(compared(table)) for table in tables]
    size = {"figsize": (12, 1.2 + 0.27 * sum(counts) + 0.55 * len(tables)), "layout": "constrained"}
    ratios = [count + 0.5 for count in counts]
    figure, panels = plt.subplots(len(tables), 2, sharex="col", squeeze=False, height_ratios=ratios, **size)
    cut = False
    for metric, column in zip(SHOWN, panels.T, strict=True):
        ahead = [np.array([table["ahead"][name][metric] for name in compared(table)], float) for table in tables]
        middle, low, high = 100 * np.concatenate(ahead).T
        low, high = (np.where(np.isfinite(end), end, middle) for end in (low, high))
        floor, top = _floor(middle, np.minimum(low, 0)), max(high.max(), 0)
        cut |= (middle < floor).any()
        for axes, table, rows in zip(column, tables, ahead, strict=True):
            _draw_bars(axes, results, compared(table), 100 * rows, floor)
        room = 0.06 * (top - floor) or 1  # where all are level
        column[0].set_xlim(floor - room, top + room)
        column[-1].set_xlabel(f"{COLUMNS[metric]}: difference to the first method, percentage points")
    for axes, right, table in zip(*panels.T, tables, strict=True):
        axes.set_title(table["title"], fontsize=10, fontweight="bold", loc="left")
        axes.set_yticks(range(len(compared(table))), [label_of(results, name) for name in compared(table)], fontsize=9)
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
        axes.annotate(points(value / 100), (1.01, place), **beside)
        if value < floor:
            axes.annotate("◀", (0, place), color="white", **beside)
    axes.set_ylim(len(names) - 0.4, -0.6)
    clean_axes(axes)
    axes.grid(visible=False, axis="y")


def draw_sweeps(results: dict[str, Any], sweeps: list[dict[str, Any]]) -> plt.Figure:
    """Differences to the teacher along what a sweep changes: a panel a sweep."""
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
        axes.set_ylabel("difference to the first method,\npercentage points")
    for axes in panels.flat[len(sweeps) :]:
        axes.remove()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    title = "bars: 95 % bootstrap intervals over seeds and drives"
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, title=title)
    return figure


def _whiskers(middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Lengths of error bars, [2, ...]; none where the interval has no bounds."""
    lengths = np.abs(np.stack([middle - low, high - middle]))
    return np.where(np.isfinite(lengths), lengths, np.nan)


def _floor(middle: np.ndarray, low: np.ndarray) -> float:
    """Where an axis of percentages may begin, so that a failed control does not flatten all others."""
    distance = np.median(middle) - middle
    return np.where(distance <= max(5, 8 * np.median(np.abs(distance))), low, np.inf).min()
