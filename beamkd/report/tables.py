"""Numbers as cells, and cells as tables: for Markdown, for LaTeX and for a terminal."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

Cells = list[list[str]]
"""A table; its first row is the header."""

COLUMNS = {"top1": "Top-1", "top5": "Top-5", "dba": "DBA", "power_ratio": "Power"}
"""Metrics of the tables, by their names in results.json."""

TITLES = COLUMNS | {"top2": "Top-2", "top3": "Top-3"}
"""Those that a table may ask for."""

MATH = {"−": "-", "±": r"\pm", "×": r"\times", "·": r"\cdot", "∞": r"\infty", "≤": r"\leq", "≥": r"\geq"}
MATH |= {"α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "λ": r"\lambda", "Δ": r"\Delta"}
"""Signs that LaTeX has in formulas only."""

LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {sign: f"${command}$" for sign, command in MATH.items()}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "–": "--"}
"""What LaTeX needs in place of signs."""


def mean_and_error(rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over seeds of [seeds, slots]; no error from a single seed."""
    values = 100 * np.asarray(rows, float)
    count = len(values)
    error = values.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.zeros(values.shape[1:])
    return values.mean(0), error


def top5_of(results: dict[str, Any], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Top-5 of methods, mean over slots and seeds, and its standard error over seeds, percent, of each."""
    found = [mean_and_error(np.mean(results["methods"][name]["top5"], -1)) for name in names]
    return np.array([float(mean) for mean, _ in found]), np.array([float(error) for _, error in found])


def percent(rows: list[list[float]]) -> str:
    """Mean over slots and seeds, with the standard error over seeds."""
    mean, error = mean_and_error(np.asarray(rows, float).mean(-1))
    return f"{mean:.1f} ± {error:.1f}" if len(rows) > 1 else f"{mean:.1f}"


def slot_names(slots: int) -> list[str]:
    """The current slot and those after it."""
    return ["now", *(f"+{ahead}" for ahead in range(1, slots))]


def span(difference: float, low: float | None, high: float | None) -> str:
    """A difference in points with its interval, which is unbounded where JSON has null."""
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return f"{points(difference)} [{points(low)}, {points(high)}]"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(100 * share, 2) + 0.0:+.2f}".replace("-", "−").replace("inf", "∞")  # no −0.00


def digits(value: float | None, unit: float = 1.0) -> str:
    """Three significant digits, or all of a whole number; '-' for what was not measured."""
    if value is None:
        return "-"
    value *= unit
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value else "0"


def markdown_table(rows: Cells, left: int = 1) -> str:
    """A Markdown table; the first row is the header, columns but the first `left` are right-aligned."""
    rule = [*["---"] * left, *["---:"] * (len(rows[0]) - left)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def latex_table(rows: Cells, columns: str, caption: str, label: str) -> str:
    """A LaTeX table over the width of the page, for the package booktabs; the first row is the header."""
    escapes = str.maketrans(LATEX)
    header, *lines = [" & ".join(cell.translate(escapes) for cell in row) + r" \\" for row in rows]
    above = [r"\begin{table*}", r"\centering\footnotesize\setlength{\tabcolsep}{2pt}"]
    named = [f"\\caption{{{caption.translate(escapes)}}}", f"\\label{{{label}}}"]
    table = [f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule", header, r"\midrule", *lines, r"\bottomrule"]
    return "\n".join([*above, *named, *table, r"\end{tabular}", r"\end{table*}"])


def terminal_table(title: str, rows: Cells, left: int = 1, wrap: int = 0) -> Table:
    """A table for a terminal; columns but the first `left` are right-aligned, the first `wrap` may break lines."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if index < left else "right", no_wrap=index >= wrap)
    for row in rows[1:]:
        table.add_row(*map(escape, row))
    return table
