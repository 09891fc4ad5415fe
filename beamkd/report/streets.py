"""What metadata say of the road, as a table: least and greatest values of the streets that match them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from beamkd.report.tables import Cells

ROAD = {
    "lane": ("distance of the lane, m", 1),
    "slots": ("slots in view", 1),
    "car_length": ("length of cars, m", 1),
    "car_width": ("width of cars, m", 1),
    "range_noise": ("noise of ranges, m", 1),
    "dropout": ("lost returns, %", 100),
    "clutter": ("false returns, %", 100),
    "max_range": ("greatest range, m", 1),
    "lidar_view": ("view to either side, degrees", 1),
    "two_lanes": ("streets with a second lane, %", 100),
    "backwards": ("streets with cars from the right, %", 100),
    "traffic": ("streets with other vehicles, %", 100),
}
"""Of a family of streets: what it is called, and how many of these units are one of the simulator's."""


def road_rows(families: Sequence[dict[str, Any]], true: dict[str, Any] | None = None) -> Cells:
    """A row for each of `ROAD`, a column for each seed's family; and one for the `true` street, if it is known."""
    header = ["Of the streets", *(["true"] if true else []), *(f"seed {seed}" for seed in range(len(families)))]
    known = _of_street(true) if true else {}
    rows = [header]
    for name, (title, unit) in ROAD.items():
        own = [_written(known[name], unit)] if true else []
        rows.append([title, *own, *(_written(family[name], unit) for family in families)])
    return rows


def _of_street(street: dict[str, Any]) -> dict[str, Any]:
    """What a street has, by the names of a family."""
    two_lanes = street["second_lane"] is not None
    return street | {
        "slots": abs(street["end"] - street["start"]) / street["speed"],
        "two_lanes": float(two_lanes),
        "backwards": float(street["start"] < street["end"]),
        "traffic": float(street["others"] > 0),
    }


def _written(value: float | Sequence[float] | None, unit: float) -> str:
    """One value, or the least and the greatest; '-' for a view that is not limited."""
    return "-" if value is None else " to ".join(f"{unit * each:.3g}" for each in np.atleast_1d(value))
