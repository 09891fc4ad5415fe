"""Figures of the data-free experiment."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from beamkd.base import SLOT_SECONDS
from beamkd.report.figures import clean_axes
from beamkd.report.tables import COLUMNS, mean_and_error, slot_names

METHODS = {
    "teacher": "Teacher",
    "scratch": "Student, real labels",
    "kd": "Student, KD on real data",
    "dfkd": "Student, data-free",
}
"""The networks in the order of tables and figures."""

COLOURS = {"teacher": "#222222", "scratch": "#999999", "kd": "#1f77b4", "dfkd": "#d62728"}
MARKERS = {"teacher": "s", "scratch": "^", "kd": "D", "dfkd": "o"}
"""Of the networks, in every figure."""

BEARINGS = (-65.1, 64.5)
"""Degrees from broadside that the 216 rays of a scan cover, from edge to edge."""

NEAREST = 0.1
"""Metres below which a figure shows a range as none: generated objects fade at their sides."""


ACROSS = {
    "lidar": ("bearing of the ray, degrees", "range, m (white: nothing moves)"),
    "radar": ("bin of the sine of the bearing", "greatest magnitude over range"),
    "doppler": ("bin of the sine of the bearing", "greatest magnitude over speed"),
    "masks": ("column of the mask", "share of the column that moves"),
    "gps": ("along broadside, along the road", "10 m"),
}
"""By sensor, what stands over time in a figure, and its colours."""


def networks(results: dict[str, Any]) -> list[str]:
    """Those of `METHODS` that the results have."""
    return [name for name in METHODS if name in results["methods"]]


def draw_accuracy(results: dict[str, Any]) -> plt.Figure:
    """Top-1 and top-5 accuracy of the networks by slot, with standard errors over seeds."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    names = networks(results)
    for axes, metric in zip(panels, ("top1", "top5"), strict=True):
        for place, name in enumerate(names):
            mean, error = mean_and_error(results["methods"][name][metric])
            slots = np.arange(len(mean)) + 0.06 * (place - (len(names) - 1) / 2)  # side by side: bars stay readable
            style = {"color": COLOURS[name], "marker": MARKERS[name], "label": METHODS[name]}
            axes.errorbar(slots, mean, error, capsize=2, linewidth=1.2, markersize=5, **style)
        axes.set_xticks(range(len(mean)), ["current slot", *slot_names(len(mean))[1:]])
        axes.set_ylabel(f"{COLUMNS[metric]} accuracy, %")
        axes.set_xlabel("slot predicted")
        clean_axes(axes)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def draw_generator(history: dict[str, np.ndarray], weights: dict[str, float]) -> plt.Figure:
    """Terms of the generator's loss, [epochs, members] each, over its training: a line a member."""
    terms = {
        "metadata": "metadata: feature statistics\nsquared error",
        "activation": "activation:\n−mean |feature|",
        "entropy": "entropy of beams:\nΣ p̄ log p̄, nats",
        "layers": "statistics of all layers\nrelative squared error",
    }
    terms = {name: label for name, label in terms.items() if name in history}
    size = {"figsize": (3.3 * len(terms), 3.2), "layout": "constrained"}
    figure, (panels,) = plt.subplots(1, len(terms), squeeze=False, **size)
    for axes, (name, label) in zip(panels, terms.items(), strict=True):
        values = history[name]
        for member in values.T:
            axes.plot(np.arange(1, len(values) + 1), member, linewidth=0.9, color="#1f77b4", alpha=0.6)
        axes.set_title(f"{label}, weight {weights[name]:g}", fontsize=10)
        axes.set_xlabel("generator step")
        if (values > 0).all():
            axes.set_yscale("log")
        clean_axes(axes)
    panels[0].set_ylabel("term of the loss, unweighted")
    return figure


def draw_sequences(real: np.ndarray, generated: np.ndarray, source: str, sensor: str = "lidar") -> plt.Figure:
    """What a sensor saw by bearing over time, sequences [N, L, ...], those of the data above generated ones."""
    real, generated = by_bearing(real, sensor), by_bearing(generated, sensor)
    across, label = ACROSS[sensor]
    count = min(len(real), len(generated))
    size = (2.4 * count + 1.4, 5.2)
    figure, panels = plt.subplots(2, count, figsize=size, sharex=True, sharey=True, layout="constrained")
    origin = {"sim": "simulated street", "tfds": "dataset"}.get(source, "folder")
    for row, (name, sequences) in enumerate({f"from the {origin}": real, "generated": generated}.items()):
        far = float(sequences[:count].max()) or 1.0  # a scale each: generated ranges need not be of a car's distance
        for column in range(count):
            axes, scans = panels[row, column], sequences[column]
            extent = (0.5, len(scans) + 0.5, *(BEARINGS if sensor == "lidar" else (0, scans.shape[-1])))
            shown = np.ma.masked_less(scans.T, NEAREST) if sensor == "lidar" else scans.T
            style = {"vmin": 0, "vmax": far, "cmap": "viridis_r", "interpolation": "nearest"}
            image = axes.imshow(shown, aspect="auto", origin="lower", extent=extent, **style)
            axes.set_title(f"{name}, {column + 1}", fontsize=9)
        panels[row, 0].set_ylabel(across)
        figure.colorbar(image, ax=panels[row], label=label)
    for axes in panels[1]:
        axes.set_xlabel("frame")
    return figure


def by_bearing(sequences: np.ndarray, sensor: str) -> np.ndarray:
    """Sequences [N, L, B] of a number for each bearing: of maps [N, L, H, 64] the greatest, of masks the share."""
    if sensor == "masks":
        return sequences.mean(-2)
    return np.fft.fftshift(sequences.max(-2), axes=-1) if sequences.ndim == 4 else sequences


def draw_drive(arrays: Any) -> plt.Figure:
    """Receive power [T, M] of one drive over time, with the best beam and those that networks predicted."""
    power = arrays["power"]
    decibels = 10 * np.log10(power / power.max())
    seconds = SLOT_SECONDS * np.arange(len(power))
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    image = axes.pcolormesh(seconds, np.arange(power.shape[1]), decibels.T, cmap="Greys_r", shading="nearest")
    axes.plot(seconds, power.argmax(1), "o", color="#ffb000", markersize=7, label="best beam", fillstyle="none")
    styles = {"teacher": ("s", "#00a0ff"), "dfkd": (".", "#ff2d2d")}
    for name, (marker, colour) in styles.items():
        axes.plot(
            seconds,
            arrays[f"beam_{name}"],
            marker,
            color=colour,
            markersize=4,
            label=f"predicted: {METHODS[name]}",
        )
    axes.set_xlabel("time since the first window's current slot, s")
    axes.set_ylabel("beam")
    figure.colorbar(image, ax=axes, label="receive power, dB under the strongest")
    figure.legend(
        loc="outside upper center",
        ncols=3,
        frameon=False,
        title=f"Current slot, drive {int(arrays['drive'])} of the test split",
    )
    return figure
