"""What all figures share: the look of their axes, and how they are saved."""

from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

matplotlib.use("Agg")


def clean_axes(axes: Axes) -> None:
    """The look of all panels: a faint grid, no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def save_figure(path: Path, figure: plt.Figure) -> None:
    """Write a figure as PNG and forget it."""
    figure.savefig(path, dpi=130)
    plt.close(figure)
