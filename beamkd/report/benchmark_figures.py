"""Figures of a benchmark: how throughput scales, and its roofline."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, StrMethodFormatter

from beamkd.report.figures import clean_axes
from beamkd.report.tables import digits

DRAWN = {
    "student_supervised": ("student, real labels", "#999999", "^"),
    "student_data_free": ("student, data-free", "#d62728", "o"),
    "student_data_free_teacher": ("student, data-free, teacher in every step", "#e377c2", "<"),
    "teacher_gru_supervised": ("GRU teacher", "#1f77b4", "D"),
    "teacher_cnn_gru_supervised": ("CNN-GRU teacher", "#222222", "s"),
    "generator": ("generator", "#2ca02c", "v"),
    "infer_student": ("student, inference", "#ff9896", "P"),
    "infer_teacher": ("CNN-GRU teacher, inference", "#9467bd", "X"),
}
"""Label, colour and marker of the cases in the figures."""

LINES = {"float32": "-", "bfloat16": "--"}
"""Of the types of numbers."""


def draw_scaling(results: dict[str, Any]) -> plt.Figure:
    """Windows a second against batch size, members and, where there are several, devices."""
    throughput = results["throughput"]
    cases = [case for case in DRAWN if case in throughput]
    spread = any(point["devices"] > 1 for case in cases for point in throughput[case])
    names = ["batch", "members", *(["devices"] if spread else [])]
    figure, panels = plt.subplots(1, len(names), figsize=(4.6 * len(names), 4.8), layout="constrained", sharey=True)
    for axes, name in zip(panels, names, strict=True):
        for case in cases:
            for dtype in LINES:
                along = _along(name, throughput[case], dtype)
                values = [point[name] for point in along], [point["items_per_second"] for point in along]
                _plot(axes, case, dtype, *values)
        base = throughput[cases[0]][0]
        others = {"batch": f"members: {base['members']}", "members": f"batch {base['batch']}"}
        axes.set_title(others.get(name, f"batch {base['batch']}, 8 members or one a device"), fontsize=10)
        axes.set_xlabel({"batch": "batch, windows", "members": "members", "devices": "devices"}[name])
        _log_axes(axes, sorted({point[name] for case in cases for point in _along(name, throughput[case])}))
    panels[0].set_ylabel("windows a second, all members")
    figure.suptitle(f"Throughput of training steps and inference on {_machine(results)}", fontsize=12)
    _legend(figure, panels[0], cases, throughput)
    return figure


def _along(name: str, points: list[dict[str, Any]], dtype: str | None = None) -> list[dict[str, Any]]:
    """The points that differ in one size only; the benchmark puts first the one that all axes go through."""
    base = points[0]
    if name == "devices":
        members = min((point["members"] for point in points if point["devices"] > 1), default=None)
        chosen = [p for p in points if p["devices"] > 1 or (p["members"] == members and p["batch"] == base["batch"])]
    else:
        fixed = {"batch", "members", "devices"} - {name}
        chosen = [point for point in points if all(point[size] == base[size] for size in fixed)]
    chosen = [point for point in chosen if dtype in (None, point["dtype"])]
    return sorted(chosen, key=lambda point: point[name])


def draw_roofline(results: dict[str, Any]) -> plt.Figure:
    """FLOP/s of each case against its FLOPs a byte, under what the machine allows."""
    throughput, rates = results["throughput"], results["rates"]
    cases = [case for case in DRAWN if case in throughput]
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    reach = []
    for case in cases:
        for dtype in LINES:
            along = _along("batch", throughput[case], dtype)
            intensity = [point["flops"] / point["bytes"] for point in along]
            speed = [point["flops_per_second"] / 1e9 for point in along]
            reach += intensity
            _plot(axes, case, dtype, intensity, speed)
            named = len(along) > 1 and dtype == "float32"  # those of the other type have the same batches
            for index, offset in {0: (-4, -11), -1: (5, 4)}.items() if named else ():
                place, text = (intensity[index], speed[index]), str(along[index]["batch"])
                style = {"fontsize": 8, "color": DRAWN[case][1], "textcoords": "offset points"}
                axes.annotate(text, place, xytext=offset, **style)
    _draw_roofs(axes, rates, min(reach) / 3)
    axes.set(xscale="log", yscale="log", ylabel="GFLOP/s, one device")
    axes.set_xlabel("FLOPs a byte read or written, as XLA counts them")
    clean_axes(axes)
    figure.suptitle(f"Roofline of one member on {_machine(results)}; small numbers: batch", fontsize=12)
    _legend(figure, axes, cases, throughput)
    return figure


def _draw_roofs(axes: Axes, rates: dict[str, Any], least: float) -> None:
    """What memory, caches and the arithmetic units allow, from an intensity of `least` FLOPs a byte."""
    products = rates["matmul_flops_per_second"]
    memory, cache = rates["memory_bytes_per_second"], rates["cache_bytes_per_second"]
    width = np.geomspace(least, 3 * max(products.values()) / min(memory, cache), 300)
    for (dtype, rate), place in zip(products.items(), ("bottom", "top"), strict=False):
        for slope in (memory, cache):
            axes.plot(width, np.minimum(rate, slope * width) / 1e9, LINES[dtype], color="black", linewidth=1)
        label = f"large matrix product, {dtype}: {digits(rate / 1e9)} GFLOP/s "
        axes.text(width[-1], rate / 1e9, label, ha="right", va=place, fontsize=9)
    for name, slope in {"memory": memory, "an array of 0.5 MiB": cache}.items():
        style = {"xytext": (10, 0), "textcoords": "offset points", "fontsize": 9}
        axes.annotate(f"{name}: {digits(slope / 1e9)} GB/s", (width[0], slope * width[0] / 1e9), **style)


def _plot(axes: Axes, case: str, dtype: str, x: list[float], y: list[float]) -> None:
    label, colour, marker = DRAWN[case]
    style = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.2}
    axes.plot(x, y, LINES[dtype], label=label if dtype == "float32" else None, **style)


def _log_axes(axes: Axes, ticks: list[int]) -> None:
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    clean_axes(axes)


def _legend(figure: plt.Figure, axes: Axes, cases: list[str], throughput: dict[str, list]) -> None:
    handles = [plt.Line2D([], [], color=DRAWN[case][1], marker=DRAWN[case][2], label=DRAWN[case][0]) for case in cases]
    dtypes = [dtype for dtype in LINES if any(p["dtype"] == dtype for case in cases for p in throughput[case])]
    if dtypes != ["float32"]:
        handles += [plt.Line2D([], [], color="0.4", linestyle=LINES[dtype], label=dtype) for dtype in dtypes]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def _machine(results: dict[str, Any]) -> str:
    environment = results["environment"]
    cores = f", {environment['cores']} cores" if environment["backend"] == "cpu" else ""
    kind = environment["device_kind"].replace("cpu", "CPU")
    return f"{environment['device_count']} × {kind}{cores}"
