"""Tables and figures of a run, from the files in its folder: `python -m beamkd.report RUN` draws them again."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tyro
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from beamkd.base import SLOT_SECONDS, InputError

matplotlib.use("Agg")

METHODS = {
    "teacher": "Teacher",
    "scratch": "Student, real labels",
    "kd": "Student, KD on real data",
    "dfkd": "Student, data-free",
}
"""The networks in the order of tables and figures."""

COLOURS = {"teacher": "#222222", "scratch": "#999999", "kd": "#1f77b4", "dfkd": "#d62728"}
MARKERS = {"teacher": "s", "scratch": "^", "kd": "D", "dfkd": "o"}
COLUMNS = {"top1": "Top-1", "top5": "Top-5", "dba": "DBA", "power_ratio": "Power"}
"""Metrics of the summary, in percent, mean over slots."""

BEARINGS = (-65.1, 64.5)
"""Degrees from broadside that the 216 rays of a scan cover, from edge to edge."""

NEAREST = 0.1
"""Metres below which a figure shows a range as none: generated objects fade at their sides."""

MATH = {"−": "-", "±": r"\pm", "×": r"\times", "·": r"\cdot", "∞": r"\infty", "≤": r"\leq", "≥": r"\geq"}
MATH |= {"α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "λ": r"\lambda", "Δ": r"\Delta"}
LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {sign: f"${command}$" for sign, command in MATH.items()}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "–": "--"}
"""What LaTeX needs in place of signs."""


def write(folder: Path) -> None:
    """Write `report.md` and the figures of the run in `folder`.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = read_results(folder)
    figures = {
        "accuracy.png": "Accuracy by slot on the test split; bars: standard error over seeds.",
        "generator.png": "Terms of the generator's loss over its training, by seed.",
        "sequences.png": "LiDAR sequences of the test split beside generated ones.",
        "drive.png": "Receive power of the beams over one drive of the test split, with the best and predicted beams.",
    }
    save_figure(folder / "accuracy.png", _draw_accuracy(results))
    history = _history(folder, "generator")
    if history:
        save_figure(folder / "generator.png", _draw_generator(history, results["config"]["generator_loss"]))
    else:  # no term of the loss had a weight
        del figures["generator.png"]
    with np.load(folder / "figures.npz", allow_pickle=False) as arrays:
        save_figure(
            folder / "sequences.png",
            _draw_sequences(arrays["real"], arrays["generated"], results["data"]["source"]),
        )
        save_figure(folder / "drive.png", _draw_drive(arrays))
    (folder / "report.md").write_text(_markdown(results, figures))


def console_table(folder: Path) -> Table:
    """The summary of the run in `folder` as a table for a terminal."""
    header, *rows = _summary_rows(read_results(folder))
    table = Table(title="Test split, percent, mean over slots (± standard error over seeds)", title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=index > 0)
    for row in rows:
        table.add_row(*row)
    return table


def read_results(folder: Path) -> dict[str, Any]:
    """What `results.json` in `folder` holds.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: expected the results of a finished run, found no file ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: expected JSON, found {error}") from None
    if not isinstance(results, dict):
        raise InputError(f"{path}: expected the results of a run, found {type(results).__name__}")
    return results


def _history(folder: Path, phase: str) -> dict[str, np.ndarray]:
    """What was logged of a phase by name, [epochs, members]; nothing of a phase that had nothing to train."""
    path = folder / "metrics.jsonl"
    try:
        lines = [line for line in map(json.loads, path.read_text().splitlines()) if line["phase"] == phase]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a line an epoch, found {error}") from None
    names = [name for name in (lines[0] if lines else ()) if name not in ("phase", "epoch")]
    return {name: np.array([line[name] for line in lines], float) for name in names}


def _mean_and_error(rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over seeds of [seeds, slots]; no error from a single seed."""
    values = 100 * np.asarray(rows, float)
    count = len(values)
    error = values.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.zeros(values.shape[1:])
    return values.mean(0), error


def _percent(rows: list[list[float]]) -> str:
    """Mean over slots and seeds, with the standard error over seeds."""
    mean, error = _mean_and_error(np.asarray(rows, float).mean(-1))
    return f"{mean:.1f} ± {error:.1f}" if len(rows) > 1 else f"{mean:.1f}"


def _methods(results: dict[str, Any]) -> list[str]:
    return [name for name in METHODS if name in results["methods"]]


def _summary_rows(results: dict[str, Any]) -> list[list[str]]:
    models = results["models"]
    rows = [["Network", "Weights", *COLUMNS.values(), "Epochs"]]
    for name in _methods(results):
        method = results["methods"][name]
        weights = models["teacher" if name == "teacher" else "student"]["parameters"]
        epochs = method.get("epochs")
        ran = "-" if epochs is None else f"{min(epochs)}-{max(epochs)}" if len(set(epochs)) > 1 else f"{epochs[0]}"
        rows.append([METHODS[name], f"{weights:,}", *(_percent(method[key]) for key in COLUMNS), ran])
    return rows


def _slot_rows(results: dict[str, Any], metric: str) -> list[list[str]]:
    slots = len(results["methods"]["teacher"][metric][0])
    rows = [["Network", *_slot_names(slots)]]
    for name in _methods(results):
        mean, error = _mean_and_error(results["methods"][name][metric])
        rows.append(
            [
                METHODS[name],
                *(f"{m:.1f} ± {e:.1f}" if e else f"{m:.1f}" for m, e in zip(mean, error, strict=True)),
            ]
        )
    return rows


def _slot_names(slots: int) -> list[str]:
    return ["now", *(f"+{ahead}" for ahead in range(1, slots))]


def _markdown(results: dict[str, Any], figures: dict[str, str]) -> str:
    models = [["Network", "Weights", "FLOPs a window"]]
    for name, cost in results["models"].items():
        models.append([name.capitalize(), f"{cost['parameters']:,}", f"{cost['flops_per_window']:,.0f}"])
    parts = [
        "# Data-free knowledge distillation for beam tracking",
        f"Data: {data_source(results)} {windows_and_seeds(results)}",
        "The data-free student has seen generated sequences and the teacher's answers on them, nothing else: no real "
        "window, label or validation score. All figures are on the test split.",
        "## Summary",
        "Percent, mean over slots; ± is the standard error over seeds. Power: received power over the best beam's.",
        markdown_table(_summary_rows(results)),
        *(
            part
            for metric, title in COLUMNS.items()
            for part in (f"## {title} by slot, percent", markdown_table(_slot_rows(results, metric)))
        ),
        *(f"![{text}]({name})\n\n{text}" for name, text in figures.items()),
        "## Networks",
        markdown_table(models),
        *time_section(results["seconds"]),
    ]
    return "\n\n".join(parts) + "\n"


def data_source(results: dict[str, Any]) -> str:
    """What of the data is simulated; of what a folder holds no more is said than the folder says of itself."""
    data = results["data"]
    if data["source"] == "sim":
        return "the built-in simulated street. Simulated: everything, traffic, LiDAR and receive powers."
    folder = f"a folder in the form of DeepSense 6G Scenario {data['scenario']}"
    if data.get("origin"):
        folder += f" ({data['origin']})"
    if results["config"]["lidar"] == "raycast":
        return f"{folder}. Receive powers and positions: as in the folder. LiDAR: simulated along these positions."
    return f"{folder}. Receive powers, positions and LiDAR: as in the folder."


def windows_and_seeds(results: dict[str, Any]) -> str:
    """How many windows and drives each part of the split has, and which seeds were run."""
    data, config = results["data"], results["config"]
    windows = ", ".join(f"{count:,} {part} ({data['drives'][part]} drives)" for part, count in data["windows"].items())
    return f"Windows of the first seed: {windows}. Seeds: {config['seeds']}, from {config['seed']}."


def time_section(seconds: dict[str, Any]) -> list[str]:
    """Paragraphs on what took how long."""
    phases = [["Phase", "Seconds"], *([name, f"{value:.1f}"] for name, value in seconds["phases"].items())]
    said = f"{seconds['total']:.1f} s in all, {seconds['compile']:.1f} s of these in compilation."
    return ["## Time", said, markdown_table(phases)]


def markdown_table(rows: list[list[str]], left: int = 1) -> str:
    """A Markdown table; the first row is the header, columns but the first `left` are right-aligned."""
    rule = [*["---"] * left, *["---:"] * (len(rows[0]) - left)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def latex_table(rows: list[list[str]], columns: str, caption: str, label: str) -> str:
    """A LaTeX table over the width of the page, for the package booktabs; the first row is the header."""
    escapes = str.maketrans(LATEX)
    header, *lines = [" & ".join(cell.translate(escapes) for cell in row) + r" \\" for row in rows]
    above = [r"\begin{table*}", r"\centering\footnotesize\setlength{\tabcolsep}{2pt}"]
    named = [f"\\caption{{{caption.translate(escapes)}}}", f"\\label{{{label}}}"]
    table = [f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule", header, r"\midrule", *lines, r"\bottomrule"]
    return "\n".join([*above, *named, *table, r"\end{tabular}", r"\end{table*}"])


def terminal_table(title: str, rows: list[list[str]], left: int = 1, wrap: int = 0) -> Table:
    """A table for a terminal; columns but the first `left` are right-aligned, the first `wrap` may break lines."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if index < left else "right", no_wrap=index >= wrap)
    for row in rows[1:]:
        table.add_row(*map(escape, row))
    return table


def save_figure(path: Path, figure: plt.Figure) -> None:
    """Write a figure as PNG and forget it."""
    figure.savefig(path, dpi=130)
    plt.close(figure)


def clean_axes(axes: Axes) -> None:
    """The look of all panels: a faint grid, no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _draw_accuracy(results: dict[str, Any]) -> plt.Figure:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    names = _methods(results)
    for axes, metric in zip(panels, ("top1", "top5"), strict=True):
        for place, name in enumerate(names):
            mean, error = _mean_and_error(results["methods"][name][metric])
            slots = np.arange(len(mean)) + 0.06 * (place - (len(names) - 1) / 2)  # side by side: bars stay readable
            style = {"color": COLOURS[name], "marker": MARKERS[name], "label": METHODS[name]}
            axes.errorbar(slots, mean, error, capsize=2, linewidth=1.2, markersize=5, **style)
        axes.set_xticks(range(len(mean)), ["current slot", *_slot_names(len(mean))[1:]])
        axes.set_ylabel(f"{COLUMNS[metric]} accuracy, %")
        axes.set_xlabel("slot predicted")
        clean_axes(axes)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_generator(history: dict[str, np.ndarray], weights: dict[str, float]) -> plt.Figure:
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


def _draw_sequences(real: np.ndarray, generated: np.ndarray, source: str) -> plt.Figure:
    count = min(len(real), len(generated))
    size = (2.4 * count + 1.4, 5.2)
    figure, panels = plt.subplots(2, count, figsize=size, sharex=True, sharey=True, layout="constrained")
    origin = "simulated street" if source == "sim" else "folder"
    for row, (name, sequences) in enumerate({f"from the {origin}": real, "generated": generated}.items()):
        far = float(sequences[:count].max()) or 1.0  # a scale each: generated ranges need not be of a car's distance
        for column in range(count):
            axes, scans = panels[row, column], sequences[column]
            extent = (0.5, len(scans) + 0.5, *BEARINGS)
            shown = np.ma.masked_less(scans.T, NEAREST)
            style = {"vmin": 0, "vmax": far, "cmap": "viridis_r", "interpolation": "nearest"}
            image = axes.imshow(shown, aspect="auto", origin="lower", extent=extent, **style)
            axes.set_title(f"{name}, {column + 1}", fontsize=9)
        panels[row, 0].set_ylabel("bearing of the ray, degrees")
        figure.colorbar(image, ax=panels[row], label="range, m (white: nothing moves)")
    for axes in panels[1]:
        axes.set_xlabel("frame")
    return figure


def _draw_drive(arrays: Any) -> plt.Figure:
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


@dataclasses.dataclass(frozen=True)
class Redraw:
    """Draw the report of a run again, from the files in its folder."""

    run: tyro.conf.Positional[Path]
    """The folder of the run."""
    keep: Path | None = None
    """Write a study's tables to this FILE.md, too, and what they are made of to FILE.json beside it."""


def main() -> None:
    """Draw the run again that the command line names, by the experiment that it is of."""
    from beamkd import report_benchmark, report_study  # here, for they build on this module

    config = tyro.cli(Redraw, prog="python -m beamkd.report")
    try:
        draws = {"datafree": write, "study": report_study.write, "benchmark": report_benchmark.write}
        experiment = read_results(config.run).get("experiment")
        if experiment not in draws:
            raise InputError(f"{config.run}: expected a run of {', '.join(draws)}, found one of {experiment}")
        if config.keep and experiment != "study":
            raise InputError(f"--keep: expected it with a study, found one of {experiment}")
        draws[experiment](config.run)
        if config.keep:
            report_study.keep(config.run, config.keep)
    except InputError as error:
        print(f"report: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
