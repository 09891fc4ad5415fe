"""The report of a study on several roads: claims over all, and how methods do on each."""

from pathlib import Path
from typing import Any

from rich.table import Table

from beamkd.report.page import write_report
from beamkd.report.results import read_results, time_section
from beamkd.report.study import keep_rounded
from beamkd.report.study_tables import beside_teacher, comparison, label_of, without_repeats
from beamkd.report.tables import COLUMNS, Cells, markdown_table, percent, points, span, terminal_table

NOTES = {
    "claims": "Difference: the first side minus the second in percentage points, mean over roads, each of which counts "
    "as much. Other roads: the 95 % interval of Student's t over the roads' differences, which holds for roads like "
    "these; the verdict is by it, and open with fewer than three roads. These roads: the interval for new seeds and "
    "drives on them alone. Then the difference on each road.",
    "streets": "As they were drawn; every one has its array, its LiDAR and its cars, see its configuration.",
    "methods": "Percent, mean over slots; ± is the standard error over seeds, on these test drives.",
}
"""What stands above the tables."""

WIDE = 7
"""Columns of claims before those of each road, for which a terminal has no room."""

METRICS = ("top1", "top5", "power_ratio")


def write(folder: Path) -> None:
    """Write `report.md` and `report.html` of the study in `folder`; each road has a report of its own below it.

    Raises:
      InputError: the folder lacks results, or they cannot be read.
    """
    write_report(folder, _markdown(read_results(folder)), [])


def keep(folder: Path, path: Path) -> None:
    """Write the tables of the study in `folder` to `path`, Markdown, and the claims beside it, JSON."""
    results = read_results(folder)
    keep_rounded(path, {name: results[name] for name in ("experiment", "config", "environment", "claims", "seconds")})
    path.write_text(_markdown(results))


def console_tables(folder: Path) -> list[Table]:
    """Claims over all roads, for a terminal."""
    rows = [row[:WIDE] for row in claim_rows(read_results(folder))]
    return [terminal_table("Claims over roads: percentage points", rows, left=2, wrap=2)] if len(rows) > 1 else []


def claim_rows(results: dict[str, Any]) -> Cells:
    """A row a claim and metric, with the difference on each road at its end."""
    roads = results["roads"]
    head = ["Claim", "Comparison", "Metric", "Margin", "Other roads", "These roads", "Verdict"]
    rows = [[*head, *roads]]
    for claim in results["claims"]:
        shared = [claim["claim"], comparison(next(iter(roads.values())), claim)]
        mean = claim["difference"]
        found = [span(mean, claim["low"], claim["high"]), span(mean, *claim["here"]), claim["verdict"]]
        judged = [COLUMNS[claim["metric"]], f"{100 * claim['margin']:.1f}", *found, *map(points, claim["each"])]
        rows.append([*shared, *judged])
    return without_repeats(rows, 2)


def method_rows(results: dict[str, Any]) -> Cells:
    """A row a road and method of its first table."""
    rows = [["Road", "Method", *(COLUMNS[metric] for metric in METRICS)]]
    for road, found in results["roads"].items():
        for name in beside_teacher(found["tables"][0]):
            measured = [percent(found["methods"][name][metric]) for metric in METRICS]
            rows.append([road, label_of(found, name), *measured])
    return rows


def street_rows(results: dict[str, Any]) -> Cells:
    """A row a simulated street: where its cars go, and how fast."""
    rows = [["Street", "Lanes, m", "Speed, km/h", "Other vehicles", "Drift over 100 drives, m"]]
    for name, road in results["roads"].items():
        street = road["config"]["street"]
        lanes = [street["lane"], *filter(None, [street["second_lane"]])]
        way = ", both ways" if street["two_way"] else ""
        speed = 3.6 * street["speed"] / street["slot_seconds"]
        drift = ", ".join(f"{each:.2f}" for each in street["drift"])
        said = f"{' and '.join(f'{lane:.1f}' for lane in lanes)}{way}"
        rows.append([name, said, f"{speed:.0f}", str(street["others"]), drift.replace("-", "−")])
    return rows


def _markdown(results: dict[str, Any]) -> str:
    parts = [f"# Study of data-free distillation on {len(results['roads'])} roads, grid '{results['config']['grid']}'"]
    claims = claim_rows(results)
    if len(claims) > 1:
        parts += ["## Claims", NOTES["claims"], markdown_table(claims, left=3)]
    if results["config"]["streets"]:
        parts += ["## Streets", NOTES["streets"], markdown_table(street_rows(results), left=2)]
    parts += ["## Methods", NOTES["methods"], markdown_table(method_rows(results), left=2)]
    return "\n\n".join([*parts, *time_section(results["seconds"])]) + "\n"
