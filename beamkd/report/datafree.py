"""The report of the data-free experiment: tables and figures from the files in the folder of its run."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from beamkd.report.datafree_figures import METHODS, draw_accuracy, draw_drive, draw_generator, draw_sequences, networks
from beamkd.report.figures import save_figure
from beamkd.report.page import write_report
from beamkd.report.results import SENSORS, data_source, read_history, read_results, time_section, windows_and_seeds
from beamkd.report.streets import road_rows
from beamkd.report.tables import COLUMNS, Cells, markdown_table, mean_and_error, percent, slot_names


def write(folder: Path) -> None:
    """Write `report.md`, `report.html` and the figures of the run in `folder`.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = read_results(folder)
    with np.load(folder / "figures.npz", allow_pickle=False) as file:
        arrays = dict(file)
    sensor = str(arrays.get("sensor", "lidar"))
    figures = {
        "accuracy.png": "Accuracy by slot on the test split; bars: standard error over seeds.",
        "generator.png": "Terms of the generator's loss over its training, by seed.",
        "sequences.png": f"{SENSORS[sensor]}, sequences of the test split beside generated ones.",
        "drive.png": "Receive power of the beams over one drive of the test split, with the best and predicted beams.",
    }
    save_figure(folder / "accuracy.png", draw_accuracy(results))
    history = read_history(folder, "generator")
    if history:
        save_figure(folder / "generator.png", draw_generator(history, results["config"]["generator_loss"]))
    else:  # no term of the loss had a weight
        del figures["generator.png"]
    sequences = arrays["real"], arrays["generated"]
    save_figure(folder / "sequences.png", draw_sequences(*sequences, results["data"]["source"], sensor))
    save_figure(folder / "drive.png", draw_drive(arrays))
    write_report(folder, _markdown(results, figures), figures)


def console_table(folder: Path) -> Table:
    """The summary of the run in `folder` as a table for a terminal."""
    header, *rows = _summary_rows(read_results(folder))
    table = Table(title="Test split, percent, mean over slots (± standard error over seeds)", title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=index > 0)
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(results: dict[str, Any], figures: dict[str, str]) -> str:
    models = [["Network", "Weights", "FLOPs a window"]]
    for name, cost in results["models"].items():
        models.append([name.capitalize(), f"{cost['parameters']:,}", f"{cost['flops_per_window']:,.0f}"])
    parts = [
        "# Data-free knowledge distillation for beam tracking",
        f"Data: {data_source(results)} {windows_and_seeds(results)}",
        "The data-free student has seen made-up sequences and the teacher's answers on them, nothing else: no real "
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
        *_road_section(results),
        *time_section(results["seconds"]),
    ]
    return "\n\n".join(parts) + "\n"


def _road_section(results: dict[str, Any]) -> list[str]:
    """What is known of the owner's road, if sequences were simulated along streets."""
    if "streets" not in results:
        return []
    return [
        "## The road, as the metadata have it",
        "Least and greatest value; without metadata those of all streets that there may be. What hardly differs from "
        "these the teacher does not tell.",
        markdown_table(road_rows(results["streets"])),
    ]


def _summary_rows(results: dict[str, Any]) -> Cells:
    models = results["models"]
    rows = [["Network", "Weights", *COLUMNS.values(), "Epochs"]]
    for name in networks(results):
        method = results["methods"][name]
        weights = models["teacher" if name == "teacher" else "student"]["parameters"]
        epochs = method.get("epochs")
        ran = "-" if epochs is None else f"{min(epochs)}-{max(epochs)}" if len(set(epochs)) > 1 else f"{epochs[0]}"
        rows.append([METHODS[name], f"{weights:,}", *(percent(method[key]) for key in COLUMNS), ran])
    return rows


def _slot_rows(results: dict[str, Any], metric: str) -> Cells:
    slots = len(results["methods"]["teacher"][metric][0])
    rows = [["Network", *slot_names(slots)]]
    for name in networks(results):
        mean, error = mean_and_error(results["methods"][name][metric])
        rows.append(
            [
                METHODS[name],
                *(f"{m:.1f} ± {e:.1f}" if e else f"{m:.1f}" for m, e in zip(mean, error, strict=True)),
            ]
        )
    return rows
