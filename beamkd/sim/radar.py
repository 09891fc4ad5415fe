"""The radar of the base station: beat signals of moving scatterers, and the maps that networks take.

A frequency-modulated continuous wave (FMCW): the beat of a chirp with its echo is a tone whose frequency tells the
range, whose phase turns from chirp to chirp by the speed, and from antenna to antenna by the bearing (Richards,
Fundamentals of Radar Signal Processing, 2nd ed., ch. 2 and 8). The radar stands at the origin and looks along x.
"""

import dataclasses
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import Array, InputError
from beamkd.sim.geometry import ORIGIN, Boxes, Point, corners, point, through_boxes
from beamkd.sim.paths import LIGHT
from beamkd.sim.street import Street, Traffic, seen_as


@dataclasses.dataclass(frozen=True)
class Chirps:
    """What an FMCW radar sends and how it listens; the defaults are those of the DeepSense testbed.

    Attributes:
      start: Hz, frequency at the start of a chirp.
      slope: Hz/s, of the frequency within a chirp.
      rate: samples of the beat signal a second.
      samples: S, of each chirp.
      chirps: C, of a frame.
      interval: s from one chirp to the next.
      antennas: A, that receive, half a wavelength apart.
      coupling: an antenna receives this times what each of its neighbours does, besides.
    """

    start: float = 77e9
    slope: float = 15e12
    rate: float = 5e6
    samples: int = 256
    chirps: int = 128
    interval: float = 65e-6
    antennas: int = 4
    coupling: complex = 0

    def __post_init__(self):
        for name in ("start", "slope", "rate", "samples", "chirps", "interval", "antennas"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise InputError(f"{name}: expected a finite number above 0, found {value}")
        if not abs(self.coupling) < 1:
            raise InputError(f"coupling: expected a magnitude below 1, found {self.coupling}")

    @property
    def wavelength(self) -> float:
        """m, at the start of a chirp."""
        return LIGHT / self.start

    @property
    def range_cell(self) -> float:
        """m, resolution in range: c / (2 · bandwidth that is sampled)."""
        return LIGHT * self.rate / (2 * self.slope * self.samples)

    @property
    def speed_cell(self) -> float:
        """m/s, resolution in radial speed: wavelength / (2 · duration of a frame)."""
        return self.wavelength / (2 * self.chirps * self.interval)


TESTBED = Chirps()
"""The radar of the DeepSense testbeds: cells of 0.195 m and 0.234 m/s."""

ANGLES = 64
"""Bins of angle: sin(azimuth) = 2 · bin / 64, bins above 32 less 64."""

EVERY = 8
"""Chirps of which one is looked at where a range-angle map alone is asked for."""

POINTS = 7
"""Points on a side of a vehicle."""

OFFSET, BODY = (-0.30, 0.40), (0.3, 3.15)
"""m, of the served car, what `LIDAR_OFFSET` and `BODY` are for the LiDAR: echoes spread in range, not along the car.
They and the coupling below were fitted to every second even drive of Scenario 9, by the beams that the published radar
network reads off the maps; `BORESIGHT` and `STIR` to all even ones."""

COUPLED = Chirps(coupling=0.11 - 0.18j)
"""The testbed's radar, whose antennas couple."""

BORESIGHT = -0.022
"""rad of azimuth that the radar looks to."""

STIR = 1.25
"""m/s, spread of the points' own speeds: wheels turn, sheets shake."""

NEAREST = 1e-3
"""m, of a point from the radar, so that nothing is divided by 0."""

SURFACE = 1e-3
"""Share of its way to a point on which the signal must not meet a side, to tell that side from the point's own."""


@struct.dataclass
class Scatterers:
    """Points that send the radar's signal back.

    Attributes:
      position: [P, 2] float32, m.
      velocity: [P, 2] float32, m/s.
      amplitude: [P] complex64, of the beat signal; 0 where there is no point.
    """

    position: Array
    velocity: Array
    amplitude: Array


def observe(map_of: Callable[[Scatterers, Chirps], Array], key: Array, traffic: Traffic, street: Street) -> Array:
    """Maps [T, ...] of a drive, as one of the functions below makes them of a frame's points. Walls hide nothing."""

    @jax.custom_batching.sequential_vmap
    def frame(key, vehicles, velocity):
        return map_of(reflect(key, *turned(vehicles, velocity)), COUPLED)

    vehicles = seen_as(traffic, OFFSET, BODY)
    others = jnp.broadcast_to(traffic.other_velocity, (street.max_frames, *traffic.other_velocity.shape))
    velocity = jnp.concatenate([traffic.velocity[:, None], others], axis=1)
    return jax.vmap(frame)(jax.random.split(key, street.max_frames), vehicles, velocity)


def turned(boxes: Boxes, velocity: Array) -> tuple[Boxes, Array]:
    """Boxes and their velocities [K, 2] as seen by a radar that looks to `BORESIGHT`."""
    cos, sin = np.cos(BORESIGHT), np.sin(BORESIGHT)
    turn = np.array([[cos, -sin], [sin, cos]], np.float32)
    centre, velocity = (jnp.matmul(vectors, turn, precision="highest") for vectors in (boxes.centre, velocity))
    return boxes.replace(centre=centre, heading=boxes.heading - BORESIGHT), velocity


def beat_signal(scatterers: Scatterers, chirps: Chirps = TESTBED) -> Array:
    """Beat signal of moving points, without noise.

    A point at range r and azimuth φ (to the left), which goes away at v, gives
    a · exp(2πi (2r/c · (start + slope · t) + 2v/wavelength · interval · k + sin φ / 2 · n))
    at time t of chirp k at antenna n, and there the neighbours' times `coupling`. It stays in its range cell while the
    frame lasts.

    Args:
      scatterers: P points.
      chirps: of the radar.

    Returns:
      [A, S, C] complex64: antennas, samples, chirps.
    """
    return _superpose(*_responses(scatterers, chirps))


def range_angle_of(scatterers: Scatterers, chirps: Chirps = TESTBED, every: int = EVERY) -> Array:
    """Range-angle map of moving points without their beat signal, in a tenth of the time.

    Transforms are linear: the points' tones are transformed, not the samples of each chirp. What stands still goes with
    the mean over all chirps; the sum over chirps is estimated from some, evenly spaced.

    Args:
      scatterers: P points.
      chirps: of the radar.
      every: of so many chirps one is looked at; with 1 the map is exact.

    Returns:
      [S, 64] float32, as `range_angle_map(beat_signal(scatterers, chirps))`.
    """
    tones, turns, phases = _responses(scatterers, chirps)
    some = (turns - turns.mean(-1, keepdims=True))[:, ::every]
    profiles = _superpose(jnp.fft.fft(tones), some, phases)
    return chirps.chirps / some.shape[-1] * _by_angle(profiles).sum(-2)


def doppler_angle_of(scatterers: Scatterers, chirps: Chirps = TESTBED) -> Array:
    """Doppler-angle map of moving points without their beat signal: transforms of tones and of turns over chirps.

    Args:
      scatterers: P points.
      chirps: of the radar.

    Returns:
      [C, 64] float32, as `doppler_angle_map(beat_signal(scatterers, chirps))`.
    """
    tones, turns, phases = _responses(scatterers, chirps)
    moving = turns - turns.mean(-1, keepdims=True)
    return _by_angle(_superpose(jnp.fft.fft(tones), jnp.fft.fft(moving), phases)).mean(-3)


def _superpose(tones: Array, turns: Array, phases: Array) -> Array:
    """Sum over points of [P, S] by [P, C] by [P, A], [A, S, C]."""
    return jnp.einsum("pa,ps,pc->asc", phases, tones, turns, precision="highest")


def _responses(scatterers: Scatterers, chirps: Chirps) -> tuple[Array, Array, Array]:
    """Of each point: its tone within a chirp [P, S], its turns over chirps [P, C] and over antennas [P, A]."""
    chex.assert_shape([scatterers.position, scatterers.velocity], (len(scatterers.amplitude), 2))
    x, y = scatterers.position[:, 0], scatterers.position[:, 1]
    distance = jnp.maximum(jnp.hypot(x, y), NEAREST)
    away = (scatterers.velocity * scatterers.position).sum(-1) / distance
    tone = 2 * chirps.slope / LIGHT / chirps.rate * distance  # cycles a sample
    turn = 2 * chirps.interval / chirps.wavelength * away  # cycles a chirp
    # Whole waves do not matter; without them float32 keeps more of the rest.
    waves = 2 * distance / chirps.wavelength
    waves = waves - jnp.floor(waves)
    start = scatterers.amplitude * _turn(waves)
    phases = _turn(y[:, None] / distance[:, None] / 2 * jnp.arange(chirps.antennas))
    neighbours = jnp.pad(phases, ((0, 0), (1, 1)))
    return (
        start[:, None] * _turn(tone[:, None] * jnp.arange(chirps.samples)),
        _turn(turn[:, None] * jnp.arange(chirps.chirps)),
        phases + chirps.coupling * (neighbours[:, :-2] + neighbours[:, 2:]),
    )


def _turn(cycles: Array) -> Array:
    return jnp.exp(2j * jnp.pi * cycles).astype(jnp.complex64)


def reflect(key: Array, boxes: Boxes, velocity: Array, points: int = POINTS, stir: float = STIR) -> Scatterers:
    """Points on the sides of vehicles that send the radar's signal back.

    A point that another vehicle or its own hides is not seen. The others of a vehicle are alike: their amplitude is one
    over the square of the vehicle's range. They move by themselves, too, or the way they interfere would last.

    Args:
      key: PRNG key of the points' own speeds.
      boxes: K vehicles, m.
      velocity: [K, 2] m/s, of each.
      points: on each of the four sides.
      stir: m/s, spread of the points' own speeds along the line of sight.

    Returns:
      K · 4 · `points` scatterers.
    """
    ends = corners(boxes)
    share = (jnp.arange(points) + 0.5) / points
    sides = [
        start.columns() + (end - start).columns().times(share)
        for start, end in zip(ends, [*ends[1:], ends[0]], strict=True)
    ]
    place = Point(*(jnp.stack(parts, 1).reshape(-1) for parts in zip(*sides, strict=True)))  # [K · 4 · points]
    enter, leave = through_boxes(ORIGIN, place, boxes)
    hidden = ((enter < 1 - SURFACE) & (enter <= leave) & (leave > 0)).any(0)
    distance = jnp.maximum(jnp.hypot(*place), NEAREST)
    position, each = jnp.stack(place, -1), 4 * points
    reach = jnp.maximum(jnp.hypot(*point(boxes.centre)), NEAREST)
    own = stir * jax.random.normal(key, distance.shape) / distance
    return Scatterers(
        position,
        jnp.repeat(velocity, each, axis=0) + own[:, None] * position,
        jnp.where(hidden, 0, jnp.repeat(1 / reach**2, each)).astype(jnp.complex64),
    )


def range_angle_map(beat: Array) -> Array:
    """Range and angle: Fourier transforms over samples and antennas, less the chirps' mean, summed over chirps.

    What stands still is the same in all chirps and goes with their mean (Demirhan and Alkhateeb, WCNC 2022).

    Args:
      beat: [..., A, S, C] complex64.

    Returns:
      [..., S, 64] float32: range bins of a cell each, angle bins from broadside to the left, then from the right.
    """
    return _by_angle(_moving(beat)).sum(-2)


def range_doppler_map(beat: Array) -> Array:
    """Range and radial speed: as `range_angle_map`, with the transform over chirps, summed over antennas.

    Args:
      beat: [..., A, S, C] complex64.

    Returns:
      [..., S, C] float32: range bins, bins of a speed cell each, from 0 away from the radar, then towards it.
    """
    return jnp.abs(jnp.fft.fft(_moving(beat), axis=-1)).sum(-3)


def doppler_angle_map(beat: Array) -> Array:
    """Radial speed and angle: Fourier transforms over all three axes, mean over range.

    Args:
      beat: [..., A, S, C] complex64.

    Returns:
      [..., C, 64] float32: bins as of the other two maps.
    """
    doppler = jnp.fft.fft(_moving(beat), axis=-1)
    return _by_angle(doppler).mean(-3)


def _moving(beat: Array) -> Array:
    """Range profiles [..., A, S, C] of what moves."""
    chex.assert_type(beat, jnp.complex64)
    profiles = jnp.fft.fft(beat, axis=-2)
    return profiles - profiles.mean(-1, keepdims=True)


def _by_angle(profiles: Array) -> Array:
    """Magnitude of profiles [..., A, S, C] by angle, [..., S, C, 64]."""
    bins = np.arange(profiles.shape[-3])[:, None] * np.arange(ANGLES) % ANGLES
    turn = np.exp(-2j * np.pi * bins / ANGLES).astype(np.complex64)
    # A transform of few antennas, filled up with zeros, is a small product, and quicker in real numbers.
    parts = jnp.moveaxis(jnp.concatenate([profiles.real, profiles.imag], -3), -3, -1)
    real = jnp.matmul(parts, np.concatenate([turn.real, -turn.imag]), precision="highest")
    imaginary = jnp.matmul(parts, np.concatenate([turn.imag, turn.real]), precision="highest")
    # Not 0, where the root has no gradient.
    return jnp.sqrt(jnp.maximum(real**2 + imaginary**2, jnp.finfo(real.dtype).tiny))
