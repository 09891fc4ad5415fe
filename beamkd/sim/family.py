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
        rng = np.random.default_rng(number)

        def draw(name: str) -> float:
            return round(float(rng.uniform(*getattr(self, name))), 3)

        alike = {field.name for field in dataclasses.fields(Street)} & {*RANGES} - {"lane", "second_lane"}
        drawn: dict[str, Any] = {name: draw(name) for name in sorted(alike)}
        lane = round(float(np.exp(rng.uniform(*np.log(self.lane)))), 2)
        beyond, start, end, slots = (draw(name) for name in ("second_lane", "ends", "ends", "slots"))
        two_lanes, two_way, backwards, traffic = rng.random(4) < (self.two_lanes, self.two_way, 0.5, self.traffic)
        way = (lane * math.tan(math.radians(start)), -lane * math.tan(math.radians(end)))
        start, end = (round(each, 2) for each in (way[::-1] if backwards else way))
        farthest = round(lane + beyond, 2) if two_lanes else lane
        beside = round(farthest + BESIDE, 2), round(lane - BESIDE if lane > NEAREST else farthest + 2 * BESIDE, 2)
        return dataclasses.replace(
            like,
            lane=lane,
            second_lane=farthest if two_lanes else None,
            two_way=bool(two_lanes and two_way),
            start=start,
            end=end,
            speed=round(min(abs(end - start) / slots, self.fastest), 3),
            body_offset=(draw("body_across"), draw("body_along")),
            drift=tuple(np.round(self.drift * rng.normal(size=2), 3).tolist()),
            others=int(rng.integers(1, 3)) if traffic else 0,
            other_lanes=beside,
            hardware_seed=int(rng.integers(2**31)),
            **drawn,
        )

    def streets(self, numbers: Iterable[int], like: Street = Street()) -> Street:
        """The streets of these numbers as one, with numbers [N]: one for each drive that `simulate` makes.

        None of them drifts.
        """
        return jax.tree.map(lambda *leaves: np.asarray(leaves), *(_aligned(self.street(n, like)) for n in numbers))


def _aligned(street: Street) -> Street:
    """The street with all that any street of a family has: a second lane where the first is, vehicles far away."""
    first, other = street.other_lanes
    lanes = (first if street.others > 0 else NOWHERE, other if street.others > 1 else NOWHERE + 2 * BESIDE)
    second = street.lane if street.second_lane is None else street.second_lane
    return dataclasses.replace(street, second_lane=second, others=2, other_lanes=lanes, drift=(0.0, 0.0))


RANGES = tuple(field.name for field in dataclasses.fields(Family) if field.type is Range)
"""Of a family, by name."""
