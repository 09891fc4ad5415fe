"""The report of the long-term study: that of every study, and accuracy against operations."""

from pathlib import Path

from beamkd.report import study
from beamkd.report.frontier import CAPTION, draw_frontier
from beamkd.report.results import read_results


def write(folder: Path) -> None:
    """Write the report of the run in `folder`, with its figures.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    more = {"frontier.png": (draw_frontier, read_results(folder)["models"])}
    study.write(folder, more, {"frontier.png": CAPTION})
