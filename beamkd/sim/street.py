"""The street: what stands and drives in it, and the radio and LiDAR that look at it.

Seen from above: the base station at the origin looks along x, across the road; the road runs along y. The
served car drives from `start` to `end`: by default towards −y, from beam 0 to the last beam.

What a street may have and the default one has not costs nothing where it is not: neither time nor a changed bit.
A street is static where a program is made for it alone. It is also a pytree of its numbers, so that one program serves
many streets: their numbers are then arrays, which are not looked at.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import BEAMS, SLOT_SECONDS, Array, InputError, named_keys
from beamkd.sim.geometry import Boxes, Walls
from beamkd.sim.materials import MATERIALS, permittivity

LIDAR_OFFSET = (-2.6, 1.1)
"""m, along broadside and along the road, from the GPS antenna to the middle of what reflects: the LiDAR sees the
near side of the car, not its antenna. Known for Scenario 8; others are taken to be alike."""

BODY = (2.0, 1.9)
"""m, along and across the car: the part of it that reflects at the height of the LiDAR's rays."""

PASSING = 0.5
"""m, between the sides of the served car and of a vehicle in a lane beside it, at least."""

LANE_WIDTH = 2.8
"""m, between the middles of two lanes of other vehicles, at least: the widest, each out of its lane's middle."""


@dataclasses.dataclass(frozen=True)
class Building:
    """A building front along the road.

    Attributes:
      distance: m from the base station, along broadside; negative is behind it.
      start: m along the road.
      end: m along the road.
      material: a name in `MATERIALS`.
    """

    distance: float
    start: float = -40.0
    end: float = 40.0
    material: str = "concrete"

    def __post_init__(self):
        _expect_numbers(self)
        _expect(self, "material", f"one of {', '.join(MATERIALS)}", lambda v: v in MATERIALS)
        _expect(self, "end", f"more than start {self.start} m", lambda v: v > self.start)
        _expect(self, "distance", "other than 0 m, the base station's place", lambda v: v != 0)


@dataclasses.dataclass(frozen=True)
class Street:
    """A street with its traffic and sensors; the defaults give the statistics of DeepSense 6G Scenario 8.

    Spreads are standard deviations. Slots are `slot_seconds` apart; speeds are metres a slot.

    Attributes:
      max_frames: frames that a drive is padded to, and its longest length.
      min_frames: a drive's shortest length.
      slot_seconds: s between frames.
      lane: m, mean distance of the served car's antenna from the base station along broadside.
      lane_spread: m, of that distance over drives.
      second_lane: m, of a second lane in which half of the drives are; there is none if None.
      two_way: whether drives in the second lane go from `end` to `start`.
      wander: m, of lateral wander within a drive.
      wander_slots: slots over which the wander keeps its direction.
      start: m along the road, where the record starts.
      end: m along the road, where it ends on average.
      end_spread: m, of the end over drives.
      speed: m a slot, median over drives, before the car slows down.
      speed_spread: of the natural logarithm of the speed over drives.
      slowing: share of its speed that the car has lost on average when it comes to `end`.
      acceleration: of the natural logarithm of the speed, smooth changes within a drive.
      acceleration_slots: slots over which an acceleration lasts.
      car_length: m, of the part of the served car that the LiDAR's rays hit.
      car_width: m, of the served car.
      body_offset: m, along broadside and along the road, from the car's antenna to the middle of the body that LiDAR
        sees.
      antenna_spread: m, of the antenna's place along the car over drives.
      gps_spread: m, error of the recorded position over drives, along and across the road.
      drift: m, along broadside and along the road, by which the car seems to have moved after a hundred drives, to
        sensors and in the record, but not to the radio: as where sensors are cast along a position that drifts.
      others: vehicles besides the served car, which block, reflect, and are seen by the LiDAR.
      other_lanes: m, distances of their lanes; the first is driven towards +y, the next towards −y, … In a drive in
        which the served car comes near, its neighbours keep out of its way.
      buildings: fronts that block, reflect, and hide what is behind them.
      beams: M, beams of the codebook.
      antennas: N, antennas of the base station, half a wavelength apart.
      boresight: degrees of azimuth that the array looks to.
      sector: degrees, half the width of the codebook's sector.
      subcarriers: K over which a beam's power is averaged.
      bandwidth: Hz that the subcarriers span.
      element_exponent: e of an antenna's power pattern cos(azimuth)^e.
      phase_bits: bits of a phase shifter's setting; 0 for exact settings.
      phase_error: degrees, of each phase shifter's setting in each beam; drawn once for the base station.
      gain_ripple: dB, of each beam's gain; drawn once for the base station.
      hardware_seed: which base station: seeds the phase errors and the ripple.
      noise_floor: dB over the power that a perfect beam receives from a car at `lane` on broadside.
      measurement_noise: dB, of each power in each frame.
      fading: dB, smooth changes of the signal, as from the car's antenna, over drives and within them.
      fading_slots: slots over which the fading lasts.
      range_noise: m, of a LiDAR range.
      dropout: share of LiDAR returns that are lost.
      clutter: share of the empty rays with a false return.
      max_range: m, of the LiDAR.
      lidar_view: degrees, half the width of what the LiDAR sees; all its rays see something if None.
    """

    max_frames: int = 64
    min_frames: int = 12
    slot_seconds: float = SLOT_SECONDS
    lane: float = 9.7
    lane_spread: float = 0.35
    second_lane: float | None = None
    two_way: bool = False
    wander: float = 0.28
    wander_slots: float = 12.0
    start: float = 9.3
    end: float = -7.7
    end_spread: float = 0.6
    speed: float = 0.405
    speed_spread: float = 0.065
    slowing: float = 0.47
    acceleration: float = 0.11
    acceleration_slots: float = 10.0
    car_length: float = BODY[0]
    car_width: float = BODY[1]
    body_offset: tuple[float, float] = LIDAR_OFFSET
    antenna_spread: float = 0.3
    gps_spread: float = 0.3
    drift: tuple[float, float] = (0.0, 0.0)
    others: int = 0
    other_lanes: tuple[float, ...] = (5.8, 13.6)
    buildings: tuple[Building, ...] = ()
    beams: int = BEAMS
    antennas: int = 16
    boresight: float = 3.2
    sector: float = 39.2
    subcarriers: int = 1
    bandwidth: float = 20e6
    element_exponent: float = 3.5
    phase_bits: int = 2
    phase_error: float = 17.0
    gain_ripple: float = 0.3
    hardware_seed: int = 73
    noise_floor: float = -5.5
    measurement_noise: float = 0.1
    fading: float = 1.35
    fading_slots: float = 15.0
    range_noise: float = 0.03
    dropout: float = 0.05
    clutter: float = 0.003
    max_range: float = 60.0
    lidar_view: float | None = None

    def __post_init__(self):
        _expect_numbers(self)
        for name in ("min_frames", "beams", "antennas", "subcarriers"):
            _expect(self, name, "at least 1", lambda v: v >= 1)
        _expect(self, "max_frames", "at least 2, for a velocity", lambda v: v >= 2)
        _expect(self, "min_frames", f"at most max_frames {self.max_frames}", lambda v: v <= self.max_frames)
        for name in ("others", "phase_bits"):
            _expect(self, name, "at least 0", lambda v: v >= 0)
        _expect(self, "hardware_seed", "from 0 to less than 2^31", lambda v: 0 <= v < 2**31)
        positive = ("slot_seconds", "lane", "speed", "car_length", "car_width", "bandwidth", "max_range")
        for name in (*positive, "wander_slots", "acceleration_slots", "fading_slots"):
            _expect(self, name, "more than 0", lambda v: v > 0)
        spreads = ("lane_spread", "wander", "end_spread", "speed_spread", "acceleration", "antenna_spread")
        noises = ("gps_spread", "phase_error", "gain_ripple", "measurement_noise", "fading", "range_noise")
        for name in (*spreads, *noises, "element_exponent"):
            _expect(self, name, "at least 0", lambda v: v >= 0)
        for name in ("dropout", "clutter"):
            _expect(self, name, "a share from 0 to 1", lambda v: 0 <= v <= 1)
        _expect(self, "slowing", "a share from 0 to less than 1", lambda v: 0 <= v < 1)
        _expect(self, "sector", "in (0, 90] degrees", lambda v: 0 < v <= 90)
        for name in ("second_lane", "lidar_view"):
            _expect(self, name, "None or more than 0", lambda v: v is None or (_finite(v) and v > 0))
        _expect(self, "end", f"other than start {self.start} m", lambda v: v != self.start)
        for name in ("body_offset", "drift"):
            _expect(self, name, "a tuple of two finite numbers", lambda v: _tuple_of(v, _finite) and len(v) == 2)
        _expect(self, "buildings", "a tuple of Building", lambda v: _tuple_of(v, lambda b: isinstance(b, Building)))
        _expect(self, "other_lanes", "a tuple of finite distances", lambda v: _tuple_of(v, _finite) and len(v) > 0)
        apart = f"lanes at least {LANE_WIDTH} m apart"
        _expect(self, "other_lanes", apart, lambda v: np.diff(sorted(v)).min(initial=np.inf) >= LANE_WIDTH - 1e-9)

    def tree_flatten(self) -> tuple[list[Any], tuple[Any, ...]]:
        """The numbers, and what shapes a program."""
        return [getattr(self, name) for name in NUMBERS], tuple(getattr(self, name) for name in STRUCTURE)

    @classmethod
    def tree_unflatten(cls, structure: tuple[Any, ...], numbers: list[Any]) -> "Street":
        """A street with other numbers, which may be any arrays."""
        street = object.__new__(cls)
        for name, value in zip((*NUMBERS, *STRUCTURE), (*numbers, *structure), strict=True):
            object.__setattr__(street, name, value)
        return street

    @property
    def walls(self) -> Walls:
        """The building fronts."""
        ends = [[(b.distance, b.start), (b.distance, b.end)] for b in self.buildings]
        ends = np.array(ends, np.float32).reshape(-1, 2, 2)
        eta = np.array([permittivity(b.material) for b in self.buildings], np.complex64)
        return Walls(jnp.asarray(ends[:, 0]), jnp.asarray(ends[:, 1]), jnp.asarray(eta))


STRUCTURE = ("max_frames", "min_frames", "wander_slots", "acceleration_slots", "fading_slots", "others", "buildings")
STRUCTURE += ("beams", "antennas", "sector", "subcarriers", "phase_bits", "drift")
"""Fields of a street that shape a program, and are the same for all streets that it serves."""

NUMBERS = tuple(field.name for field in dataclasses.fields(Street) if field.name not in STRUCTURE)
"""The others."""

jax.tree_util.register_pytree_node_class(Street)


@struct.dataclass
class Traffic:
    """One drive along the street, T = max_frames slots.

    Attributes:
      frames: [] int32, how many of the T slots belong to the drive: the first ones.
      antenna: [T, 2] m, where the served car's antenna is.
      velocity: [T, 2] m/s, of the served car.
      recorded: [T, 2] m, where its GPS says it is.
      vehicles: T times 1 + `others` boxes, the served car first.
      other_velocity: [others, 2] m/s.
    """

    frames: Array
    antenna: Array
    velocity: Array
    recorded: Array
    vehicles: Boxes
    other_velocity: Array


def drive_traffic(key: Array, street: Street, number: Array | int = 0) -> Traffic:
    """The served car's way along the street in one drive, and the other vehicles'.

    Args:
      key: PRNG key.
      street: the street.
      number: of the drive, by which `street.drift` has come so far.

    Returns:
      Where everything is in each slot.
    """
    normal_key, others_key = jax.random.split(key)
    slots = street.max_frames
    count = [6, smooth_draws(slots, street.acceleration_slots), smooth_draws(slots, street.wander_slots)]
    # One draw for all: each separate one adds to the time of compilation.
    drive, changes, wander = jnp.split(jax.random.normal(normal_key, (sum(count),)), np.cumsum(count)[:2])
    lane_normal, end_normal, speed_normal, place_normal = drive[:4]
    gps = street.gps_spread * drive[4:]

    changes = street.acceleration * smooth(changes, slots, street.acceleration_slots)
    pace = street.speed * jnp.exp(street.speed_spread * speed_normal + changes)
    # The record starts and ends where the GPS says so.
    lane, start, end, direction = _way(key, street)
    along = start - gps[1] + direction * _travel(pace, street)
    across = lane + street.lane_spread * lane_normal
    across = across + street.wander * smooth(wander, slots, street.wander_slots)
    antenna = jnp.stack([across, along], -1)
    recorded = antenna + gps

    end = end + street.end_spread * jnp.clip(end_normal, -2.5, 2.5)
    frames = jnp.clip((direction * (recorded[:, 1] - end) <= 0).sum(), street.min_frames, slots)
    step = jnp.gradient(antenna, axis=0)
    heading = jnp.arctan2(step[:, 1], step[:, 0])
    place = street.antenna_spread * jnp.clip(place_normal, -2.5, 2.5)
    centre = antenna + jnp.array(street.body_offset) + place * jnp.stack([jnp.cos(heading), jnp.sin(heading)], -1)
    if any(street.drift):
        drift = jnp.array(street.drift) * number / 100
        centre, recorded = centre + drift, recorded + drift
    size = jnp.array([street.car_length, street.car_width])
    half_width = (street.car_length * jnp.abs(jnp.cos(heading)) + street.car_width * jnp.abs(jnp.sin(heading))) / 2
    near = jnp.minimum(centre[:, 0] - half_width, across).min() - PASSING
    far = jnp.maximum(centre[:, 0] + half_width, across).max() + PASSING
    others, other_velocity = _other_vehicles(others_key, street, lane, near, far)
    return Traffic(
        frames=frames.astype(jnp.int32),
        antenna=antenna,
        velocity=step / street.slot_seconds,
        recorded=recorded,
        vehicles=Boxes(
            jnp.concatenate([centre[:, None], others.centre], 1),
            jnp.concatenate([jnp.broadcast_to(size, (slots, 1, 2)), others.size], 1),
            jnp.concatenate([heading[:, None], others.heading], 1),
        ),
        other_velocity=other_velocity,
    )


def seen_as(traffic: Traffic, offset: tuple[float, float], size: tuple[float, float]) -> Boxes:
    """The vehicles as a sensor sees them for which the served car has another place and size than for the LiDAR.

    Args:
      traffic: of a drive.
      offset: m, along broadside and along the road, what `LIDAR_OFFSET` is for the LiDAR.
      size: m, along and across the car.
    """
    vehicles = traffic.vehicles
    shift = jnp.array([one - lidar for one, lidar in zip(offset, LIDAR_OFFSET, strict=True)])
    return vehicles.replace(centre=vehicles.centre.at[:, 0].add(shift), size=vehicles.size.at[:, 0].set(size))


def smooth(white: Array, slots: int, lasting: float) -> Array:
    """A smooth random course of unit variance: white noise under a Gaussian window of width `lasting` slots.

    Args:
      white: [smooth_draws(slots, lasting)] float, independent normal draws.
      slots: T.
      lasting: slots.

    Returns:
      [T] float.
    """
    reach = math.ceil(2 * lasting)
    window = np.exp(-((np.arange(-reach, reach + 1) / lasting) ** 2))
    band = np.zeros((slots, slots + 2 * reach), np.float32)
    for slot in range(slots):
        band[slot, slot : slot + 2 * reach + 1] = window / np.sqrt((window**2).sum())
    return jnp.matmul(band, white, precision="highest")


def smooth_draws(slots: int, lasting: float) -> int:
    """How many draws `smooth` takes."""
    return slots + 2 * math.ceil(2 * lasting)


def _way(key: Array, street: Street) -> tuple[Array | float, ...]:
    """The served car's lane in a drive, where its record starts and ends, m, and its direction, +1 or -1."""
    direction = jnp.where(street.end > street.start, 1.0, -1.0)
    if street.second_lane is None:
        return street.lane, street.start, street.end, direction
    second = jax.random.bernoulli(named_keys(key, "lane"))
    lane, back = jnp.where(second, street.second_lane, street.lane), second & street.two_way
    start, end = jnp.where(back, street.end, street.start), jnp.where(back, street.start, street.end)
    return lane, start, end, jnp.where(back, -direction, direction)


def _travel(pace: Array, street: Street) -> Array:
    """Way from the start [T] m, at a pace [T] m a slot that falls along the way as `slowing` says."""
    # At a share s of the way the speed is pace (1 - slowing s^4): full speed over the first half, then the
    # car slows down, as was measured.
    way = abs(street.end - street.start)

    def step(travelled, speed):
        share = jnp.clip(travelled / way, 0.0, 1.2)
        return travelled + speed * (1 - street.slowing * share**4), travelled

    return jax.lax.scan(step, 0.0, pace)[1]


def _other_vehicles(key: Array, street: Street, lane: Array | float, near: Array, far: Array) -> tuple[Boxes, Array]:
    """`others` vehicles at constant speeds, [T, others] boxes and [others, 2] m/s.

    From `near` to `far`, m across the road, the served car in its `lane` needs the road for itself in this drive.
    Where a vehicle would be in the way, all that drive on its side of the served car keep as much more distance.
    """
    count, slots = street.others, street.max_frames
    speed_draw, lane_draw, place, time, big, gap = jax.random.uniform(key, (6, count))
    # Vehicle i drives in lane `number`, as the one of that `rank` in its queue; a queue keeps its first one's speed.
    number, rank = np.arange(count) % len(street.other_lanes), np.arange(count) // len(street.other_lanes)
    sign = jnp.where(number % 2 == 0, 1.0, -1.0)
    speed = sign * street.speed * (0.6 + speed_draw[number])
    # From a small car to a van: 3.8 x 1.7 m to 6.0 x 2.2 m.
    size = jnp.stack([3.8 + 2.2 * big, 1.7 + 0.5 * big], -1)
    lanes = jnp.array(street.other_lanes, jnp.float32)[number]
    across = lanes + 0.3 * (2 * lane_draw - 1)
    nearer = lanes < lane + street.body_offset[0] / 2  # than the middle of the served car
    in_the_way = jnp.where(nearer, across + size[:, 1] / 2 - near, far - (across - size[:, 1] / 2))
    before, behind = (jnp.max(in_the_way, where=side, initial=0.0) for side in (nearer, ~nearer))
    across = across + jnp.where(nearer, -before, behind)
    # The first one is somewhere within the field of view at some time of the drive, the next 10 to 18 m behind.
    place = street.start + (street.end - street.start) * place[number] - sign * (14 * rank + 2 * (2 * gap - 1))
    along = place + speed * (jnp.arange(slots)[:, None] - 0.75 * slots * time[number])
    boxes = Boxes(
        jnp.stack([jnp.broadcast_to(across, along.shape), along], -1),
        jnp.broadcast_to(size, (slots, count, 2)),
        jnp.broadcast_to(sign * jnp.pi / 2, (slots, count)),
    )
    return boxes, jnp.stack([jnp.zeros(count), speed / street.slot_seconds], -1)


def _expect_numbers(config: Street | Building) -> None:
    """Fields that are a number are one, and finite."""
    for field in dataclasses.fields(config):
        if field.type is int:
            _expect(config, field.name, "an integer", lambda v: isinstance(v, int) and not isinstance(v, bool))
        if field.type is float:
            _expect(config, field.name, "a finite number", _finite)


def _finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _tuple_of(values: Any, good: Callable[[Any], bool]) -> bool:  # a list could not be hashed
    return isinstance(values, tuple) and all(map(good, values))


def _expect(config: Street | Building, name: str, expected: str, holds: Callable[[Any], bool]) -> None:
    value = getattr(config, name)
    if not holds(value):
        raise InputError(f"{type(config).__name__}.{name}: expected {expected}, found {value!r}")
