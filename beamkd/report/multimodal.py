"""The report of the study of several sensors: that of every study, and what fusion, KD and failures look like."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from beamkd.base import SLOT_SECONDS
from beamkd.report import study
from beamkd.report.figures import clean_axes
from beamkd.report.frontier import CAPTION as FRONTIER
from beamkd.report.frontier import draw_frontier
from beamkd.report.results import read_arrays, read_results
from beamkd.report.study_tables import label_of
from beamkd.report.tables import top5_of

CAPTIONS = {
    "fusion.png": "Top-5 accuracy, mean over slots, of teachers by what they see, and of students of one sensor, with "
    "standard errors over seeds.",
    "frontier.png": FRONTIER,
    "failing.png": "Above: what a failing sensor costs the teacher of all sensors, trained without and with modality "
    "dropout, in Top-5 accuracy, mean over slots, with 95 % bootstrap intervals over seeds and drives. Below: power "
    "lost along the longest test drive of the first seed, in whose second half a sensor fails as it costs most.",
}
"""What stands below the figures."""

WITHOUT, WITH, INTACT = "#d62728", "#1f77b4", "#555555"
"""Colours: without modality dropout, with it, and where nothing fails."""

STUDENTS = {
    "scratch": ("student, real labels", "#9ec5e8"),
    "kd": ("student, KD from all sensors", "#1f77b4"),
    "dfkd": ("student, data-free KD from all sensors", "#d62728"),
}
"""Kinds of students by the beginning of their names: what they are called, and a colour."""

LEAST_SHARE = 1e-3
"""Of the best beam's power: losses are drawn up to 30 dB."""


def write(folder: Path) -> None:
    """Write the report of the run in `folder`, with its figures.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    results = read_results(folder)
    failing = [name for name in results["methods"] if name.startswith("plain_missing_")]
    more = {"fusion.png": (draw_fusion, results["models"]), "frontier.png": (draw_frontier, results["models"])}
    if failing:
        more["failing.png"] = (draw_failing, read_arrays(folder))
    study.write(folder, more, CAPTIONS)


def draw_fusion(results: dict[str, Any], models: dict[str, Any]) -> plt.Figure:
    """A point a teacher, by accuracy, where there are several; and a group of points a student's sensor."""
    teachers = [name for name in models if name.startswith("teacher")]
    teachers.sort(key=lambda name: np.mean(results["methods"][name]["top5"]))
    kinds = {kind: [name for name in models if name.startswith(f"{kind}_")] for kind in STUDENTS}
    kinds = {kind: names for kind, names in kinds.items() if names}
    several = len(teachers) > 1
    figure, panels = plt.subplots(
        1, 1 + several, figsize=(13 if several else 8, 5), layout="constrained", squeeze=False
    )
    if several:
        _draw_teachers(panels[0, 0], results, teachers)
    _draw_students(panels[0, -1], results, kinds)
    for axes in panels.flat:
        clean_axes(axes)
    return figure


def _draw_teachers(axes: Axes, results: dict[str, Any], teachers: list[str]) -> None:
    means, errors = top5_of(results, teachers)
    places = np.arange(len(teachers))
    axes.errorbar(means, places, xerr=errors, fmt="o", markersize=8, color="#4f7396", capsize=3)
    axes.set_yticks(places, [label_of(results, name) for name in teachers])
    for place, mean in zip(places, means, strict=True):
        axes.text(mean, place + 0.18, f"{mean:.1f}", ha="center", va="bottom", fontsize=8)
    axes.set_ylim(-0.5, len(teachers) - 0.3)
    axes.set(title="Teachers, by what they see", xlabel="Top-5 accuracy, %")


def _draw_students(axes: Axes, results: dict[str, Any], kinds: dict[str, list[str]]) -> None:
    apart = 0.5 / max(len(kinds), 1)
    for place, (kind, names) in enumerate(kinds.items()):
        title, colour = STUDENTS[kind]
        means, errors = top5_of(results, names)
        across = np.arange(len(names)) + apart * (place - 0.5 * (len(kinds) - 1))
        axes.errorbar(across, means, errors, fmt="o", markersize=9, capsize=3, label=title, color=colour)
        for x, mean in zip(across, means, strict=True):
            axes.annotate(f"{mean:.1f}", (x, mean), (8, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_xticks(range(len(names)), [label_of(results, name).partition(",")[0] for name in names])
        axes.set_xlim(-0.5, len(names) - 0.4)
    teacher = 100 * np.mean(results["methods"]["teacher"]["top5"])
    axes.axhline(teacher, color="black", linestyle="--", linewidth=1, label=f"teacher of all sensors, {teacher:.1f}")
    axes.set(title="Students of one sensor: what KD buys", ylabel="Top-5 accuracy, %")
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, frameon=False)


def draw_failing(results: dict[str, Any], drive: dict[str, np.ndarray]) -> plt.Figure:
    """What each failure of each sensor costs; and a drive in whose second half a sensor is missing."""
    table = next(table for table in results["tables"] if any(name.startswith("plain_") for name in table["methods"]))
    failures = [name.removeprefix("plain_") for name in table["methods"] if name.startswith("plain_")]
    figure, panels = plt.subplots(2, 1, figsize=(11, 7.4), layout="constrained")
    for shift, (kind, colour) in {-0.2: ("plain", WITHOUT), 0.2: ("dropout", WITH)}.items():
        middle, low, high = 100 * np.array([table["ahead"][f"{kind}_{name}"]["top5"] for name in failures], float).T
        ends = np.abs(np.stack([middle - low, high - middle]))
        said = "without modality dropout" if kind == "plain" else "with modality dropout"
        ends = np.where(np.isfinite(ends), ends, np.nan)
        across = np.arange(len(failures)) + shift
        panels[0].bar(across, middle, 0.38, yerr=ends, capsize=2, color=colour, label=said)
        for x, cost in zip(across, middle, strict=True):
            panels[0].text(x, 1.5, f"{cost:+.1f}", ha="center", va="bottom", fontsize=8, color=colour)
    titles = [label_of(results, f"plain_{name}").partition(",")[0] for name in failures]
    panels[0].set_xticks(range(len(failures)), titles, rotation=20)
    panels[0].axhline(0, color="black", linewidth=1)
    panels[0].set_ylabel("Top-5 against the teacher\nwhose sensors all work, points")
    panels[0].legend(fontsize=9)
    _draw_drive(panels[1], results, table, drive)
    for axes in panels:
        clean_axes(axes)
    return figure


def _draw_drive(axes: Axes, results: dict[str, Any], table: dict[str, Any], drive: dict[str, np.ndarray]) -> None:
    """Power that predicted beams lose along a drive; from the middle on a sensor fails, in the way that costs most."""
    failing = [name for name in table["methods"] if name.startswith("plain_")]
    worst = min(failing, key=lambda name: table["ahead"][name]["top5"][0]).removeprefix("plain_")
    power, seconds = drive["power"], SLOT_SECONDS * np.arange(len(drive["power"]))
    half = len(power) // 2
    lines = {
        "nothing fails": (INTACT, drive["beam_teacher"]),
        "without modality dropout": (WITHOUT, _from(half, drive["beam_teacher"], drive[f"beam_plain_{worst}"])),
        "with modality dropout": (
            WITH,
            _from(half, drive["beam_teacher_dropout"], drive[f"beam_dropout_{worst}"]),
        ),
    }
    for label, (colour, beam) in lines.items():
        share = np.take_along_axis(power, beam[:, None], -1)[:, 0] / power.max(-1)
        style = {"linewidth": 3 if colour == INTACT else 1.6, "alpha": 0.5 if colour == INTACT else 1}
        axes.plot(seconds, -10 * np.log10(np.maximum(share, LEAST_SHARE)), color=colour, label=label, **style)
    axes.axvspan(seconds[half], seconds[-1], color="0.92", label=label_of(results, f"plain_{worst}").partition(",")[0])
    axes.set(xlabel="seconds along the drive", ylabel="power below the best beam's, dB")
    axes.invert_yaxis()
    axes.legend(fontsize=9, loc="lower left")


def _from(half: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.concatenate([before[:half], after[half:]])
