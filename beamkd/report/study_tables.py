"""Tables of a study: claims, methods, slots and sizes."""

from typing import Any

import numpy as np

from beamkd.report.tables import COLUMNS, TITLES, Cells, digits, percent, slot_names, span

SHOWN = ("top1", "top5")
"""Metrics of differences, in tables and figures."""


def claim_rows(results: dict[str, Any]) -> Cells:
    """A row a claim and metric; what all rows of a claim share stands in the first alone."""
    rows = [["Claim", "Statement", "Comparison", "Metric", "Margin", "Difference", "Verdict"]]
    for claim in results["claims"]:
        shared = [claim["claim"], claim["statement"], comparison(results, claim)]
        found = span(claim["difference"], claim["low"], claim["high"])
        judged = [COLUMNS[claim["metric"]], f"{100 * claim['margin']:.1f}", found, claim["verdict"]]
        rows.append([*shared, *judged])
    return without_repeats(rows, 3)


def without_repeats(rows: Cells, columns: int) -> Cells:
    """A table whose first columns are empty where they are as in the row before."""
    pairs = zip(rows, rows[1:], strict=False)
    return rows[:1] + [
        [""] * columns + row[columns:] if row[:columns] == last[:columns] else row for last, row in pairs
    ]


def claim_slot_rows(results: dict[str, Any]) -> Cells:
    """A row a claim and metric, with its difference in each slot."""
    slots = len(results["claims"][0]["slots"]["difference"])
    rows = [["Claim", "Comparison", "Metric", *slot_names(slots)]]
    for claim in results["claims"]:
        spans = map(span, *(claim["slots"][end] for end in ("difference", "low", "high")))
        rows.append([claim["claim"], comparison(results, claim), COLUMNS[claim["metric"]], *spans])
    return rows


def method_tables(results: dict[str, Any]) -> dict[str, Cells]:
    """The study's tables by title, with a row a method."""
    differences, tables = [f"Δ {COLUMNS[metric]}" for metric in SHOWN], {}
    for table in results["tables"]:
        metrics, teacher = table.get("metrics", [*COLUMNS]), teacher_of(table)
        tables[table["title"]] = [["Method", "Data-free", *(TITLES[metric] for metric in metrics), *differences]]
        for name in table["methods"]:
            method, data_free = results["methods"][name], "yes" if name in results["data_free"] else "no"
            measured = [percent(method[metric]) for metric in metrics]
            ahead = ["–" if name == teacher else span(*table["ahead"][name][metric]) for metric in SHOWN]
            tables[table["title"]].append([label_of(results, name), data_free, *measured, *ahead])
    return tables


def slot_rows(results: dict[str, Any], metric: str) -> Cells:
    """Accuracy of the first table's methods and the teacher by slot."""
    slots = range(len(results["methods"]["teacher"][metric][0]))
    rows = [["Method", *slot_names(len(slots))]]
    for name in beside_teacher(results["tables"][0]):
        values = np.asarray(results["methods"][name][metric])
        rows.append([label_of(results, name), *(percent(values[:, [slot]]) for slot in slots)])
    return rows


def size_tables(results: dict[str, Any]) -> dict[str, Cells]:
    """Of the networks, and of the sweeps along which their size changes."""
    models, tables = results["models"], {}
    cost = {name: [f"{model['parameters']:,}", f"{model['flops_per_window']:,.0f}"] for name, model in models.items()}
    if any("seconds_per_epoch" in model for model in models.values()):
        return {"Networks": network_rows(results)}
    networks = [name for name in ("teacher", "student", "generator") if name in models]
    tables["Networks"] = [["Network", "Weights", "FLOPs a window"], *([name, *cost[name]] for name in networks)]
    for sweep in results["sweeps"]:
        if not set(sweep["methods"]) <= set(models) or len({cost[name][0] for name in sweep["methods"]}) == 1:
            continue
        metrics = (*SHOWN, "power_ratio")
        titles = [COLUMNS[metric] for metric in metrics]
        rows = [["Method", "Weights", "FLOPs a window", *titles, *(f"Δ {title}" for title in titles)]]
        for name in sweep["methods"]:
            measured = [percent(results["methods"][name][metric]) for metric in metrics]
            ahead = [span(*sweep["ahead"][name][metric]) for metric in metrics]
            rows.append([label_of(results, name), *cost[name], *measured, *ahead])
        tables[sweep["title"]] = rows
    return tables


def network_rows(results: dict[str, Any]) -> Cells:
    """Accuracy and power of each network beside what it costs; seconds an epoch are those of one seed."""
    units = {"flops_per_window": 1e-6, "ms_per_window": 1.0, "seconds_per_epoch": 1.0}
    rows = [["Network", "Top-1", "Top-5", "Power", "Weights", "MFLOPs a window", "ms a window", "s an epoch"]]
    for name, model in results["models"].items():
        method = results["methods"].get(name)  # a network may serve many methods
        measured = [percent(method[metric]) if method else "-" for metric in (*SHOWN, "power_ratio")]
        spent = [digits(model.get(key), unit) for key, unit in units.items()]
        rows.append([label_of(results, name), *measured, f"{model['parameters']:,}", *spent])
    return rows


def comparison(results: dict[str, Any], claim: dict[str, Any]) -> str:
    """Both sides in labels; a side of two methods is how near the first is to the second."""
    sides = [[label_of(results, name) for name in claim[side].split(" to ")] for side in ("better", "worse")]
    return " against ".join(side[0] if len(side) == 1 else f"({' to '.join(side)})" for side in sides)


def label_of(results: dict[str, Any], name: str) -> str:
    """What a method is called in tables and figures."""
    return results["labels"].get(name, name)


def teacher_of(table: dict[str, Any]) -> str:
    """The method that the others of a table are compared with."""
    return table.get("teacher", "teacher")


def compared(table: dict[str, Any]) -> list[str]:
    """The methods of a table that are compared with its teacher."""
    return [name for name in table["methods"] if name != teacher_of(table)]


def beside_teacher(table: dict[str, Any]) -> list[str]:
    """The teacher of a table, then the methods compared with it."""
    return [teacher_of(table), *compared(table)]
