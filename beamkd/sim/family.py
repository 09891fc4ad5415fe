"""A family of streets: other roads, cars, arrays and LiDARs, drawn from wide ranges, for what must hold on any road."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from beamkd.base import InputError
from beamkd.sim.street import LANE_WIDTH, Street

Range = tuple[float, float]
"""Least and greatest value; draws are uniform."""

BESIDE = 3.5
"""m, from a lane of served cars to one of other vehicles beside it."""

NEAREST = 8.0
"""m, at which a lane of served cars has one of other vehicles before it."""

NOWHERE = 1e4
"""m, where vehicles go that are not there."""


@dataclasses.dataclass(frozen=True)
class Family:
    """What streets are drawn from. Fields that are called as those of `Street` mean the same.

    Attributes:
      lane: m; its logarithm is uniform.
      second_lane: m, from that lane to a second one beyond it.
      two_lanes: share of streets that have it.
      two_way: share of these in which it leads the other way.
      backwards: share of streets whose cars come from the right.
      ends: degrees from broadside at which a record starts and ends.
      slots: from start to end, for a car that does not slow down.
      fastest: m a slot, that no street's speed exceeds.
      lane_spread: m.
      wander: m.
      speed_spread: of the logarithm of the speed.
      slowing: share.
      acceleration: of the logarithm of the speed.
      car_length: m.
      car_width: m.
      body_across: m, along broadside from the antenna to the middle of the body that the LiDAR sees.
      body_along: m, along the road, likewise.
      antenna_spread: m.
      gps_spread: m.
      drift: m, standard deviation along each axis.
      traffic: share of streets that have one or two other vehicles at a time.
      boresight: degrees.
      phase_error: degrees.
      gain_ripple: dB.
      noise_floor: dB.
      fading: dB.
      range_noise: m.
      dropout: share.
      clutter: share.
      max_range: m.
      lidar_view: degrees.
    """

    lane: Range = (6.0, 35.0)
    second_lane: Range = (LANE_WIDTH, 4.0)
    two_lanes: float = 0.5
    two_way: float = 0.5
    backwards: float = 0.5
    ends: Range = (36.0, 45.0)
    slots: Range = (30.0, 48.0)
    fastest: float = 2.0
    lane_spread: Range = (0.15, 0.7)
    wander: Range = (0.1, 0.4)
    speed_spread: Range = (0.05, 0.2)
    slowing: Range = (0.0, 0.5)
    acceleration: Range = (0.05, 0.15)
    car_length: Range = (1.5, 5.0)
    car_width: Range = (1.5, 2.2)
    body_across: Range = (-2.6, 0.5)
    body_along: Range = (-1.5, 1.5)
    antenna_spread: Range = (0.1, 0.8)
    gps_spread: Range = (0.1, 1.0)
    drift: float = 0.5
    traffic: float = 0.5
    boresight: Range = (-8.0, 8.0)
    phase_error: Range = (5.0, 20.0)
    gain_ripple: Range = (0.1, 0.6)
    noise_floor: Range = (-14.0, -5.0)
    fading: Range = (0.8, 3.5)
    range_noise: Range = (0.01, 0.1)
    dropout: Range = (0.0, 0.2)
    clutter: Range = (0.0, 0.01)
    max_range: Range = (50.0, 100.0)
    lidar_view: Range = (50.0, 65.0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is Range and not (len(value) == 2 and -math.inf < value[0] <= value[1] < math.inf):
                raise InputError(f"Family.{field.name}: expected the least value and the greatest, found {value}")
            if field.name == "lane" and not value[0] > 0:
                raise InputError(f"Family.lane: expected more than 0 m, found {value}")
            if field.type is float and not 0 <= value < math.inf:
                raise InputError(f"Family.{field.name}: expected 0 or more, found {value}")

    def street(self, number: int, like: Street = Street()) -> Street:
        """The street of a number, 0 or more; what the family has no range of is that of the street `like`.

        Raises:
          InputError: a street cannot have what was drawn.
        """
        drawn = self._drawn(number)
        lane, two_lanes = drawn["lane"], drawn["two_lanes"]
        start, end = (round(lane * math.tan(math.radians(each)), 2) for each in drawn["ends"])
        start, end = (-end, start) if drawn["backwards"] else (start, -end)
        farthest = round(lane + drawn["second_lane"], 2) if two_lanes else lane
        beside = round(farthest + BESIDE, 2), round(lane - BESIDE if lane > NEAREST else farthest + 2 * BESIDE, 2)
        return dataclasses.replace(
            like,
            lane=lane,
            second_lane=farthest if two_lanes else None,
            two_way=two_lanes and drawn["two_way"],
            start=start,
            end=end,
            speed=round(min(abs(end - start) / drawn["slots"], self.fastest), 3),
            body_offset=(drawn["body_across"], drawn["body_along"]),
            drift=drawn["drift"],
            others=drawn["others"],
            other_lanes=beside,
            hardware_seed=drawn["hardware_seed"],
            **{name: drawn[name] for name in ALIKE},
        )

    def streets(self, numbers: Iterable[int], like: Street = Street()) -> Street:
        """The streets of these numbers as one, with numbers [N]: one for each drive that `simulate` makes.

        None of them drifts.
        """
        return jax.tree.map(lambda *leaves: np.asarray(leaves), *(_aligned(self.street(n, like)) for n in numbers))

    def narrowed(self, numbers: Iterable[int]) -> "Family":
        """The least family that these streets of this one are of; what none of them has stays as it is here."""
        drawn = [self._drawn(number) for number in numbers]
        wide = [each for each in drawn if each["two_lanes"]]

        def around(name: str) -> Range:
            values = [each[name] for each in (wide if name == "second_lane" else drawn)]
            return (float(np.min(values)), float(np.max(values))) if values else getattr(self, name)

        def share(name: str, among: list[dict[str, Any]]) -> float:
            return float(np.mean([each[name] for each in among])) if among else getattr(self, name)

        shares = {name: share(name, wide if name == "two_way" else drawn) for name in SHARES}
        return dataclasses.replace(self, **{name: around(name) for name in RANGES}, **shares)

    def _drawn(self, number: int) -> dict[str, Any]:
        """What the street of a number has, by the names of the ranges and shares; 'ends' are two."""
        rng = np.random.default_rng(number)

        def draw(name: str) -> float:
            return round(float(rng.uniform(*getattr(self, name))), 3)

        drawn: dict[str, Any] = {name: draw(name) for name in ALIKE}
        drawn["lane"] = round(float(np.exp(rng.uniform(*np.log(self.lane)))), 2)
        drawn |= {"second_lane": draw("second_lane"), "ends": (draw("ends"), draw("ends")), "slots": draw("slots")}
        drawn |= {name: bool(rng.random() < getattr(self, name)) for name in SHARES}
        drawn |= {name: draw(name) for name in ("body_across", "body_along")}
        drawn["drift"] = tuple(np.round(self.drift * rng.normal(size=2), 3).tolist())
        drawn["others"] = int(rng.integers(1, 3)) if drawn["traffic"] else 0
        return drawn | {"hardware_seed": int(rng.integers(2**31))}


def _aligned(street: Street) -> Street:
    """The street with all that any street of a family has: a second lane where the first is, vehicles far away."""
    first, other = street.other_lanes
    lanes = (first if street.others > 0 else NOWHERE, other if street.others > 1 else NOWHERE + 2 * BESIDE)
    second = street.lane if street.second_lane is None else street.second_lane
    return dataclasses.replace(street, second_lane=second, others=2, other_lanes=lanes, drift=(0.0, 0.0))


RANGES = tuple(field.name for field in dataclasses.fields(Family) if field.type is Range)
"""Of a family, by name."""

SHARES = ("two_lanes", "two_way", "backwards", "traffic")
"""Of its streets, likewise."""

ALIKE = tuple(sorted({field.name for field in dataclasses.fields(Street)} & {*RANGES} - {"lane", "second_lane"}))
"""Those of fields that a street has, too, and by themselves."""
