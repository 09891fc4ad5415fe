"""The report of what is given away: that of every study, membership tests, and the road."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from beamkd.report import study
from beamkd.report.figures import clean_axes
from beamkd.report.results import read_results
from beamkd.report.streets import road_rows
from beamkd.report.tables import Cells

CAPTION = (
    "How well training windows are told from those of the test split: the area under the ROC curve, with the 95 % "
    "interval over seeds and drives. At 50 % (dashed) nothing is given away."
)

MEASURES = {"area": "Area under the ROC curve", "caught": "Caught while 1 % of others are"}
"""Of a test."""


def write(folder: Path) -> None:
    """Write the report of the run in `folder`, with its figures.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    tests = read_results(folder)["tests"]
    study.write(folder, {"membership.png": (draw_tests, tests)}, {"membership.png": CAPTION}, tables)


def tables(results: dict[str, Any]) -> dict[str, Cells]:
    """What this report has beside those of every study."""
    rows = [["What is looked at", *MEASURES.values()]]
    for test in results["tests"].values():
        rows.append([test["label"], *(_share(test[name]) for name in MEASURES)])
    road = results["road"]
    return {
        "Training windows told from others, percent": rows,
        "The road, as the metadata have it": road_rows(road["found"], road.get("true")),
    }


def draw_tests(results: dict[str, Any], tests: dict[str, Any]) -> plt.Figure:
    """A point with its interval a test."""
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.32 * len(tests)), layout="constrained")
    for place, test in enumerate(tests.values()):
        mean, low, high = (100 * (np.nan if test["area"][end] is None else test["area"][end]) for end in ENDS)
        axes.plot([low, high], [place, place], color="#1f77b4", linewidth=2, alpha=0.5)
        axes.plot(mean, place, "o", color="#1f77b4")
    axes.axvline(50, color="0.4", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(tests)), [test["label"] for test in tests.values()])
    axes.invert_yaxis()
    axes.set(xlabel="area under the ROC curve, %")
    clean_axes(axes)
    return figure


ENDS = ("mean", "low", "high")


def _share(found: dict[str, float | None]) -> str:
    """Mean and interval, percent; unbounded where JSON has null."""
    mean, low, high = (found[end] for end in ENDS)
    if low is None:
        return f"{100 * mean:.1f}"
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
