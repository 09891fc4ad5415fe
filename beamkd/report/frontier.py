"""Accuracy against what a network costs, with the frontier: the best for its operations."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from beamkd.report.figures import clean_axes
from beamkd.report.study_tables import label_of
from beamkd.report.tables import top5_of

CAPTION = (
    "Top-5 accuracy, mean over slots, against the operations that a window takes; bars: standard error over seeds. "
    "The line joins the networks than which no cheaper one is as accurate. The area of a point is that of its weights."
)

KINDS = {
    "teacher": ("teacher", "#555555"),
    "scratch": ("student, real labels", "#9ec5e8"),
    "kd": ("student, KD", "#1f77b4"),
    "dfkd": ("student, data-free", "#d62728"),
}
"""What networks are called whose names begin so, and a colour."""


def draw_frontier(results: dict[str, Any], models: dict[str, Any]) -> plt.Figure:
    """A point a network that was trained, and the frontier."""
    names = [name for name in models if name in results["methods"]]
    flops = np.array([models[name]["flops_per_window"] for name in names]) / 1e6
    means, errors = top5_of(results, names)
    figure, axes = plt.subplots(figsize=(11, 6), layout="constrained")
    for place, name in enumerate(names):
        _, colour = KINDS[name.partition("_")[0]]
        area = 20 + 0.001 * models[name]["parameters"]
        axes.errorbar(flops[place], means[place], errors[place], color=colour, capsize=2, linewidth=1, zorder=2)
        axes.scatter(flops[place], means[place], area, color=colour, alpha=0.75, zorder=3)
        number = {"xytext": (6, 5), "textcoords": "offset points", "fontsize": 9}
        axes.annotate(str(place + 1), (flops[place], means[place]), **number)
    steps = draw_steps(axes, flops, means, "best for its operations")
    listed = "\n".join(f"{place + 1}  {label_of(results, name)}" for place, name in enumerate(names))
    axes.text(1.02, 1.0, listed, transform=axes.transAxes, va="top", fontsize=9, linespacing=1.5)
    kinds = [kind for kind in KINDS if any(name.partition("_")[0] == kind for name in names)]
    patches = [Patch(color=KINDS[kind][1], label=KINDS[kind][0]) for kind in kinds]
    axes.legend(handles=[*patches, *steps], loc="lower right")
    axes.set_xscale("log")
    axes.margins(0.12)
    axes.set(xlabel="MFLOPs a window", ylabel="Top-5 accuracy, %")
    clean_axes(axes)
    return figure


def draw_steps(axes: plt.Axes, costs: np.ndarray, values: np.ndarray, label: str) -> list[Line2D]:
    """A line along the frontier of some points."""
    best = frontier(costs, values)
    line = {"color": "#2ca02c", "drawstyle": "steps-post", "linewidth": 1.5, "zorder": 1}
    return axes.plot(costs[best], values[best], label=label, **line)


def frontier(costs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which of some points no cheaper one, nor one as cheap, comes up to; in the order of their costs."""
    order = np.lexsort((-values, costs))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(values[order])[:-1]])
    return order[values[order] > before]
