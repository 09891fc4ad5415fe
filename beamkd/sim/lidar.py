"""The LiDAR of the base station: exact ranges along its rays, then noise, dropouts and clutter.

The scanner stands at the origin and looks along x. A ray is a bearing from broadside, increasing towards +y.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import SCAN_RAYS, Array
from beamkd.sim.geometry import ORIGIN, Boxes, Point, Walls, no_boxes, onto_walls, through_boxes
from beamkd.sim.street import Street, Traffic

RAYS = np.deg2rad(-64.8 + 0.6 * np.arange(SCAN_RAYS)).astype(np.float32)
"""[216] rad, bearing of each ray of the DeepSense scans."""


def cast_rays(azimuth: Array, boxes: Boxes, walls: Walls | None = None) -> Array:
    """Range from the origin to the first box or wall along each ray.

    A box around the origin is hit from inside.

    Args:
      azimuth: [R] float, rad from broadside.
      boxes: K boxes, m.
      walls: W walls, m, or None.

    Returns:
      [R] float32, m; infinity where a ray meets nothing.
    """
    _check(azimuth, boxes)
    ray = _directions(azimuth)  # of length 1 m: a share of it is a range
    enter, leave = through_boxes(ORIGIN, ray, boxes)
    ranges = jnp.where((enter <= leave) & (leave > 0), jnp.where(enter > 0, enter, leave), jnp.inf)
    hits = ranges.min(0, initial=jnp.inf)
    if walls is not None:
        ranges, within = onto_walls(ORIGIN, ray, walls)
        ranges = jnp.where(within & (ranges > 0), ranges, jnp.inf)
        hits = jnp.minimum(hits, ranges.min(0, initial=jnp.inf))
    return hits


def _check(azimuth: Array, boxes: Boxes) -> None:
    chex.assert_rank(azimuth, 1)
    chex.assert_shape([boxes.centre, boxes.size], (boxes.heading.shape[0], 2))
    chex.assert_type([azimuth, boxes.centre, boxes.size, boxes.heading], float)


def _directions(azimuth: Array) -> Point:
    """Unit vectors of bearings [R] rad."""
    if not isinstance(azimuth, np.ndarray):
        return Point(jnp.cos(azimuth), jnp.sin(azimuth))
    # XLA would compute these constants ahead, with other last bits in a program for several devices than for one.
    exact = azimuth.astype(np.float64)
    return Point(*(jnp.asarray(part.astype(azimuth.dtype)) for part in (np.cos(exact), np.sin(exact))))


def observe(key: Array, traffic: Traffic, street: Street) -> Array:
    """Scans of a drive, [T, R] m."""

    def scan(key, vehicles):
        return lidar_scan(
            key,
            vehicles,
            street.walls if street.buildings else None,
            RAYS,
            noise=street.range_noise,
            dropout=street.dropout,
            clutter=street.clutter,
            max_range=street.max_range,
        )

    scans = jax.vmap(scan)(jax.random.split(key, street.max_frames), traffic.vehicles)
    if street.lidar_view is None:
        return scans
    return jnp.where(np.abs(np.rad2deg(RAYS)) <= street.lidar_view, scans, 0.0)


def lidar_scan(
    key: Array,
    boxes: Boxes,
    walls: Walls | None = None,
    azimuth: Array = RAYS,
    noise: float = 0.03,
    dropout: float = 0.05,
    clutter: float = 0.003,
    max_range: float = 60.0,
) -> Array:
    """One scan with the static clutter removed, as the DeepSense files hold it.

    What the empty street would return is taken away: a ray that meets a wall first is 0, a vehicle in front
    of a wall stays.

    Args:
      key: PRNG key of noise, dropouts and clutter.
      boxes: the vehicles, m.
      walls: the building fronts, m, or None.
      azimuth: [R] float, rad, bearings of the rays.
      noise: standard deviation of a range, m.
      dropout: share of returns that are lost.
      clutter: share of empty rays with a false return, uniform from 2 to 16 m.
      max_range: m, beyond which nothing returns.

    Returns:
      [R] float32, range of each ray in m, 0 where nothing moves.
    """
    _check(azimuth, boxes)
    static = jnp.inf
    if walls is not None:
        static = cast_rays(azimuth, no_boxes(), walls)
    exact = cast_rays(azimuth, boxes)
    moving = (exact < static) & (exact <= max_range)
    # One uniform draw serves a ray whatever it meets, for random numbers cost as much as the geometry. A
    # return drops out below `dropout`, and the rest of the draw, again uniform, makes the normal noise. An
    # empty ray shows clutter below `clutter`, and the draw says where.
    draw = jax.random.uniform(key, azimuth.shape)
    rest = jnp.clip((draw - dropout) / jnp.maximum(1 - dropout, 1e-6), 1e-6, 1 - 1e-6)
    seen = jnp.where(moving, exact, 0.0) + noise * jax.scipy.special.ndtri(rest)
    false = 2 + 14 * draw / jnp.maximum(clutter, 1e-9)
    return jnp.where(moving, jnp.where(draw >= dropout, seen, 0.0), jnp.where(draw < clutter, false, 0.0))
