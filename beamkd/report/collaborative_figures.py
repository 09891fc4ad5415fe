"""Figures of collaborative learning."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from beamkd.report.figures import clean_axes
from beamkd.report.frontier import draw_steps
from beamkd.report.study_figures import COLOURS, style_of
from beamkd.report.study_tables import label_of
from beamkd.report.tables import mean_and_error, top5_of

SHOWN = ("local", "central_kd", "fedavg", "fedmd", "datafree")
"""Strategies in the figure of nodes."""

FREE = "#d62728"
"""Of strategies whose centre sees no window."""


def draw_bytes(results: dict[str, Any], names: list[str]) -> plt.Figure:
    """A numbered point a strategy that sends something, the frontier, and a line for nodes that learn alone."""
    figure, axes = plt.subplots(figsize=(11, 6), layout="constrained")
    sent = [name for name in names if bytes_of(results, name)]
    means, errors = top5_of(results, sent)
    megabytes = np.array([bytes_of(results, name) for name in sent]) / 1e6
    for place, name in enumerate(sent):
        colour = FREE if name in results["data_free"] else "#1f77b4"
        axes.errorbar(megabytes[place], means[place], errors[place], color=colour, capsize=2, marker="o", markersize=7)
    draw_steps(axes, megabytes, means, "best for its bytes")
    if "local" in names:
        alone = float(top5_of(results, ["local"])[0][0])
        axes.axhline(alone, color="0.4", linestyle="--", linewidth=1.2, label=f"each node alone, {alone:.1f}")
    axes.legend(fontsize=9)
    listed = "\n".join(f"{place + 1}  {label_of(results, name)}" for place, name in enumerate(sent))
    axes.text(1.02, 1.0, listed, transform=axes.transAxes, va="top", fontsize=9, linespacing=1.5)
    axes.set_xscale("log")
    axes.margins(0.12)
    _number(axes, megabytes, means)
    axes.set(xlabel="MB on all links, all rounds and nodes (red: data-free)", ylabel="Top-5 accuracy, %")
    clean_axes(axes)
    return figure


def _number(axes: plt.Axes, x: np.ndarray, y: np.ndarray) -> None:
    """A number beside each point, from 1; those of points side by side stand below one another."""
    inches = axes.transData.transform(np.stack([x, y], axis=1)) / axes.figure.dpi
    placed: list[tuple[float, float]] = []
    for place in np.argsort(-y):
        right, up = 72 * inches[place]
        line = min([up + 5, *(other - 11 for near, other in placed if abs(near - right) < 20)])
        placed.append((right, line))
        offset = {"xytext": (7, line - up), "textcoords": "offset points", "fontsize": 9}
        axes.annotate(str(place + 1), (x[place], y[place]), **offset)


def draw_rounds(results: dict[str, Any], names: list[str]) -> plt.Figure:
    """A line a strategy."""
    figure, axes = plt.subplots(figsize=(11, 6), layout="constrained")
    last = max(results["methods"][name]["rounds"] for name in names)
    for place, name in enumerate(names):
        curve = results["methods"][name]["curve"]
        rounds = curve["rounds"] if results["methods"][name]["rounds"] > 1 else [last]
        style = style_of(place) | {"linestyle": "-" if place < len(COLOURS) else "--"}
        axes.plot(rounds, 100 * np.mean(curve["top5"], 0), markersize=4, label=label_of(results, name), **style)
    axes.set(xlabel="rounds", ylabel="Top-5 accuracy, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    clean_axes(axes)
    return figure


def draw_nodes(results: dict[str, Any], names: list[str]) -> plt.Figure:
    """A group of bars a node."""
    shown = [name for name in SHOWN if name in names] or names[: len(SHOWN)]
    nodes, width = results["nodes"], 0.85 / len(shown)
    figure, axes = plt.subplots(figsize=(13, 5.5), layout="constrained")
    lowest = 100.0
    for place, name in enumerate(shown):
        found = [mean_and_error(np.mean(node["top5"], -1)) for node in results["methods"][name]["nodes"]]
        means, errors = (np.array([float(pair[part]) for pair in found]) for part in (0, 1))
        across = np.arange(len(nodes)) + width * (place - 0.5 * (len(shown) - 1))
        axes.bar(across, means, width, yerr=errors, capsize=2, color=COLOURS[place], label=label_of(results, name))
        lowest = min(lowest, (means - errors).min())
    titles = [f"{number}\n{node['sensor']}\n{node['size']}\n{node['windows']}" for number, node in enumerate(nodes)]
    axes.set_xticks(range(len(nodes)), titles)
    axes.set(ylabel="Top-5 accuracy, %", ylim=(max(0, lowest - 5), 100), xlabel="node; sensor; network; windows")
    axes.legend(ncols=len(shown), loc="upper center", bbox_to_anchor=(0.5, 1.1))
    clean_axes(axes)
    return figure


def draw_map(results: dict[str, Any], arrays: dict[str, np.ndarray]) -> plt.Figure:
    """Positions by node, from above."""
    figure, axes = plt.subplots(figsize=(11, 5), layout="constrained")
    place, owner = arrays["position"], arrays["owner"]
    for number, node in enumerate(results["nodes"]):
        own = place[owner == number]
        label = f"{number}: {node['sensor']}, {node['size']}"
        axes.scatter(-own[:, 1], own[:, 0], s=14, alpha=0.7, label=label, **style_of(number))
    axes.scatter([0], [0], marker="^", s=120, color="black", label="base station")
    axes.set(xlabel="m along the road, to the right", ylabel="m across it", aspect="equal")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), title="windows of node")
    clean_axes(axes)
    return figure


def draw_partitions(results: dict[str, Any], names: list[str]) -> plt.Figure:
    """A line a strategy, from nodes that are alike to nodes that are not."""
    figure, axes = plt.subplots(figsize=(11, 6), layout="constrained")
    lines: dict[str, list[str]] = {}
    for name in names:
        lines.setdefault(label_of(results, name).partition(", ")[0], []).append(name)
    for place, (label, own) in enumerate(lines.items()):
        means, errors = top5_of(results, own)
        across = np.arange(len(own)) + 0.03 * (place - len(lines) / 2)
        axes.errorbar(across, means, errors, capsize=2, label=label, **style_of(place))
    first = next(iter(lines.values()))
    axes.set_xticks(range(len(first)), [label_of(results, name).partition(", ")[2] for name in first])
    axes.set(ylabel="Top-5 accuracy, %", xlabel="whose windows are whose")
    axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1))
    clean_axes(axes)
    return figure


def draw_faults(results: dict[str, Any], names: list[str]) -> plt.Figure:
    """A table in colours for each strategy."""
    words = {name: label_of(results, name).split(", ") for name in names}
    strategies = list(dict.fromkeys(label for label, *_ in words.values()))
    figure, panels = plt.subplots(1, len(strategies), figsize=(6.5 * len(strategies), 5), layout="constrained")
    for axes, strategy in zip(np.atleast_1d(panels), strategies, strict=True):
        chosen = {tuple(rest): name for name, (label, *rest) in words.items() if label == strategy}
        own = {key: float(top5_of(results, [name])[0][0]) for key, name in chosen.items()}
        faults, rules = (list(dict.fromkeys(key[part] for key in own)) for part in (0, 1))
        values = np.array([[own[fault, rule] for rule in rules] for fault in faults])
        axes.imshow(values, cmap="RdYlGn", vmin=0, vmax=100, aspect="auto")
        for row, column in np.ndindex(*values.shape):
            axes.text(column, row, f"{values[row, column]:.1f}", ha="center", va="center")
        axes.set_xticks(range(len(rules)), rules)
        axes.set_yticks(range(len(faults)), faults)
        axes.set_title(strategy)
    return figure


def bytes_of(results: dict[str, Any], name: str) -> float:
    """On all links, mean over seeds."""
    return sum(float(np.mean(results["methods"][name][f"bytes_{link}"])) for link in ("up", "down", "between"))
