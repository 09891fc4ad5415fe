"""Tables and figures of a benchmark, from its results.json: `python -m beamkd.report RUN` draws them again."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, StrMethodFormatter
from rich.table import Table

from beamkd.report import clean_axes, markdown_table, read_results, save_figure, terminal_table

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

LEGEND = (
    "ms: median a step, of one member. Spread: between the quartiles, in percent of it. Items: windows; frames for the "
    "simulator and for reading. Matmul: share of the FLOP/s of a large matrix product: on a CPU of a single "
    "one, which uses all cores, for devices share them; elsewhere of one on each device. MiB: arguments, results and "
    "temporaries of the program, on each device. Compile: seconds. PyTorch: its time over ours."
)
"""What the columns of the main table mean."""

MARKED = {
    "student_data_free": (
        "†",
        "Not the same work: PyTorch's step runs the frozen teacher, ours takes answers that the teacher gave once, "
        "before the first epoch. Case student_data_free_teacher is the same work.",
    ),
    "student_data_free_teacher": (
        "‡",
        "The same work: ours runs the frozen teacher within every step, too, and PyTorch's is its student_data_free.",
    ),
}
"""Marks of ratios to PyTorch by case, and what they mean."""

RECIPES = (
    "Recipe: settings of inversion and data-free distillation, as `python -m experiments.datafree --recipe NAME` has "
    "them: beamkd is ours, its default, and paper as published. Each run compiles all of its programs."
)
"""What stands below the table of the pipeline."""

MAIN, GROWTH, PIPELINE = (
    "Time and throughput",
    "How the simulator grows",
    "The whole data-free experiment, with compilation",
)
"""Titles of the tables."""

ROOMY = 11
"""Columns that fit a terminal of 120 characters with a space around each."""

APART = ("simulate_growth", "pipeline")
"""Cases with a table of their own."""


def write(folder: Path) -> None:
    """Write `report.md` and the figures of the benchmark in `folder`.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = read_results(folder)
    figures = {}
    if any(case in results["throughput"] for case in DRAWN):
        save_figure(folder / "scaling.png", _draw_scaling(results))
        save_figure(folder / "roofline.png", _draw_roofline(results))
        figures["scaling.png"] = "Windows a second against batch size, members and devices."
        figures["roofline.png"] = (
            "FLOP/s against FLOPs a byte, from the least to the greatest batch size. Lines: the large matrix product, "
            "and the rates at which memory and a small array are read and written. XLA counts bytes as if there were "
            "no caches: what fits into these may lie above memory's line."
        )
    (folder / "report.md").write_text(_markdown(results, figures))


def console_tables(folder: Path) -> list[Table]:
    """The tables of the benchmark in `folder`, for a terminal."""
    results = read_results(folder)
    tables = []
    for title, rows in _tables(results).items():
        table = terminal_table(title, rows)
        if len(rows[0]) > ROOMY:
            table.padding = 0
        table.caption, table.caption_justify = "\n".join(_notes(title, results)) or None, "left"
        tables.append(table)
    return tables


def _markdown(results: dict[str, Any], figures: dict[str, str]) -> str:
    environment, rates = results["environment"], results["rates"]
    products = ", ".join(
        f"{_digits(rate / 1e9)} GFLOP/s in {dtype}" for dtype, rate in rates["matmul_flops_per_second"].items()
    )
    cores = ", on all cores," if environment["backend"] == "cpu" else ""
    parts = [
        "# Benchmark",
        f"{environment['device_count']} × {environment['device_kind']}, {environment['cores']} CPU cores, "
        f"JAX {environment['jax']}. On one device: a large matrix product{cores} {products}; memory read and written "
        f"at {_digits(rates['memory_bytes_per_second'] / 1e9)} GB/s.",
        LEGEND,
    ]
    for title, rows in _tables(results).items():
        parts += [f"## {title}", markdown_table(rows), *_notes(title, results)]
    parts += [f"![{text}]({name})\n\n{text}" for name, text in figures.items()]
    return "\n\n".join(parts) + "\n"


def _tables(results: dict[str, Any]) -> dict[str, list[list[str]]]:
    """All tables by title, the first row of each is its header."""
    throughput = results["throughput"]
    tables = {}
    if set(throughput) - set(APART):
        tables[MAIN] = _main_table(results)
    if "simulate_growth" in throughput:
        tables[GROWTH] = _growth_table(throughput["simulate_growth"])
    if "pipeline" in throughput:
        tables[PIPELINE] = _pipeline_table(throughput["pipeline"])
    return tables


def _notes(title: str, results: dict[str, Any]) -> list[str]:
    """Lines below a table."""
    if title == PIPELINE:
        return [RECIPES]
    ratios = results.get("against", {}).get("ratios", {}) if title == MAIN else {}
    return [f"{mark} {text}" for case, (mark, text) in MARKED.items() if case in ratios]


def _main_table(results: dict[str, Any]) -> list[list[str]]:
    """A row a point; devices and types only where there are several, ratios only where there is a baseline."""
    named = [(case, point) for case, points in results["throughput"].items() if case not in APART for point in points]
    sizes = {"batch": "Batch", "members": "Members", "devices": "Devices", "dtype": "Type"}
    usual = {"devices": 1, "dtype": "float32"}
    sizes = {size: title for size, title in sizes.items() if {p[size] for _, p in named} != {usual.get(size)}}
    ratios = results.get("against", {}).get("ratios")
    measured = ["ms", "Spread", "Items/s", "GFLOP/s", "Matmul", "MiB", "Compile"]
    rows = [["Case", *sizes.values(), *measured, *(["PyTorch"] if ratios is not None else [])]]
    for case, point in named:
        low, high = point["quartiles"]
        cells = [
            case,
            *(str(point[size]) for size in sizes),
            _digits(point["milliseconds"] / point["members"]),
            _percent((high - low) / point["milliseconds"]),
            _digits(point["items_per_second"]),
            _digits(point["flops_per_second"], 1e-9),
            _percent(_fraction_of_matmul(results, point)),
            _digits(point["peak_bytes"], 2**-20),
            _digits(point["compile_seconds"]),
        ]
        rows.append(cells if ratios is None else [*cells, _marked_ratio(case, ratios, point)])
    return rows


def _fraction_of_matmul(results: dict[str, Any], point: dict[str, Any]) -> float | None:
    """Of older results, too: they lack the product's rate, and took each device of a CPU to have all cores."""
    fraction = point["fraction_of_matmul"]
    counted = fraction is not None and "matmul_flops_per_second" not in point
    return fraction * point["devices"] if counted and results["environment"]["backend"] == "cpu" else fraction


def _marked_ratio(case: str, ratios: dict[str, list[dict[str, Any]]], point: dict[str, Any]) -> str:
    ratio, mark = _ratio(ratios.get(case, []), point), MARKED.get(case, ("", ""))[0]
    return _digits(ratio) + mark * (ratio is not None)


def _ratio(ratios: list[dict[str, Any]], point: dict[str, Any]) -> float | None:
    same = ("batch", "members", "devices", "dtype")
    return next((entry["ratio"] for entry in ratios if all(entry[name] == point[name] for name in same)), None)


def _growth_table(points: list[dict[str, Any]]) -> list[list[str]]:
    sizes = ("drives", "walls", "boxes", "paths", "antennas")
    rows = [[*(name.capitalize() for name in sizes), "ms", "Frames/s", "µs a frame"]]
    for point in points:
        cells = [str(point[name]) for name in sizes]
        rate = point["items_per_second"]
        rows.append([*cells, *map(_digits, (point["milliseconds"], rate, 1e6 / rate))])
    return rows


def _pipeline_table(points: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["Recipe", "Seeds", "Devices", "Seconds", "Seconds a seed", "Compile, s"]]
    for point in points:
        values = (point["milliseconds"] / 1e3, point["seconds_per_seed"], point["compile_seconds"])
        recipe = point.get("recipe", "-")  # older results do not tell
        rows.append([recipe, str(point["members"]), str(point["devices"]), *map(_digits, values)])
    return rows


def _digits(value: float | None, unit: float = 1.0) -> str:
    """Three significant digits, or all of a whole number; '-' for what was not measured."""
    if value is None:
        return "-"
    value *= unit
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value else "0"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{_digits(100 * share)} %"


def _draw_scaling(results: dict[str, Any]) -> plt.Figure:
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


def _draw_roofline(results: dict[str, Any]) -> plt.Figure:
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
        label = f"large matrix product, {dtype}: {_digits(rate / 1e9)} GFLOP/s "
        axes.text(width[-1], rate / 1e9, label, ha="right", va=place, fontsize=9)
    for name, slope in {"memory": memory, "an array of 0.5 MiB": cache}.items():
        style = {"xytext": (10, 0), "textcoords": "offset points", "fontsize": 9}
        axes.annotate(f"{name}: {_digits(slope / 1e9)} GB/s", (width[0], slope * width[0] / 1e9), **style)


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
