"""The LiDAR of the base station: exact ranges along its rays, then noise, dropouts and clutter.

The scanner stands at the origin and looks along x. A ray is a bearing from broadside, increasing towards +y.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import Array

RAYS = np.deg2rad(-64.8 + 0.6 * np.arange(216)).astype(np.float32)
"""[216] rad, bearing of each ray of the DeepSense scans."""


@struct.dataclass
class Boxes:
    """Upright boxes seen from above: vehicles.

    Attributes:
      centre: [K, 2] float32, m.
      size: [K, 2] float32, m, length along the heading and width across it.
      heading: [K] float32, rad, from +x towards +y.
    """

    centre: Array
    size: Array
    heading: Array


@struct.dataclass
class Walls:
    """Upright walls seen from above: building fronts.

    Attributes:
      start: [W, 2] float32, m, one end of each wall.
      end: [W, 2] float32, m, the other end.
      permittivity: [W] complex64, of the material, for radio; None is concrete.
    """

    start: Array
    end: Array
    permittivity: Array | None = None


def cast_rays(azimuth: Array, boxes: Boxes, walls: Walls | None = None) -> Array:
    """Range from the origin to the first box or wall along each ray.

    Boxes by the slab method in the box's own frame (Kay and Kajiya 1986), walls by the crossing of two lines.
    A box around the origin is hit from inside.

    Args:
      azimuth: [R] float, rad from broadside.
      boxes: K boxes, m.
      walls: W walls, m, or None.

    Returns:
      [R] float32, m; infinity where a ray meets nothing.
    """
    _check(azimuth, boxes)
    ray = (jnp.cos(azimuth), jnp.sin(azimuth))
    hits = _box_ranges(ray, boxes).min(0, initial=jnp.inf)
    if walls is not None:
        hits = jnp.minimum(hits, _wall_ranges(ray, walls).min(0, initial=jnp.inf))
    return hits


# Below, x and y are kept apart and the rays come last, so that the compiler makes vector instructions along
# the rays; with a last axis of two it is thirty times slower.


def _box_ranges(ray: tuple[Array, Array], boxes: Boxes) -> Array:
    """Unit vectors, two times [R], to [K, R] m."""
    cos, sin = jnp.cos(boxes.heading)[:, None], jnp.sin(boxes.heading)[:, None]  # [K, 1]
    x, y = boxes.centre[:, :1], boxes.centre[:, 1:]
    near_a, far_a = _slab(x * cos + y * sin, boxes.size[:, :1] / 2, ray[0] * cos + ray[1] * sin)
    near_b, far_b = _slab(y * cos - x * sin, boxes.size[:, 1:] / 2, ray[1] * cos - ray[0] * sin)
    enter, leave = jnp.maximum(near_a, near_b), jnp.minimum(far_a, far_b)
    return jnp.where((enter <= leave) & (leave > 0), jnp.where(enter > 0, enter, leave), jnp.inf)


def _slab(middle: Array, half: Array, slope: Array) -> tuple[Array, Array]:
    """Ranges at which a ray of a slope enters and leaves the slab from middle - half to middle + half."""
    # A ray along the slab would give 0 / 0; a tiny slope instead gives the right, very far, crossings.
    slope = jnp.where(jnp.abs(slope) < 1e-18, 1e-18, slope)
    one, other = (middle - half) / slope, (middle + half) / slope
    return jnp.minimum(one, other), jnp.maximum(one, other)


def _wall_ranges(ray: tuple[Array, Array], walls: Walls) -> Array:
    """Unit vectors, two times [R], to [W, R] m: t of t ray = start + s (end - start), t > 0, 0 <= s <= 1."""
    x, y = walls.start[:, :1], walls.start[:, 1:]  # [W, 1]
    dx, dy = walls.end[:, :1] - x, walls.end[:, 1:] - y
    determinant = ray[0] * dy - ray[1] * dx  # [W, R]
    parallel = determinant == 0
    safe = jnp.where(parallel, 1.0, determinant)
    t, s = (x * dy - y * dx) / safe, (x * ray[1] - y * ray[0]) / safe
    return jnp.where(~parallel & (t > 0) & (s >= 0) & (s <= 1), t, jnp.inf)


def _check(azimuth: Array, boxes: Boxes) -> None:
    chex.assert_rank(azimuth, 1)
    chex.assert_shape([boxes.centre, boxes.size], (boxes.heading.shape[0], 2))
    chex.assert_type([azimuth, boxes.centre, boxes.size, boxes.heading], float)


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
        empty = Boxes(*(jnp.zeros((0, *x.shape[1:])) for x in (boxes.centre, boxes.size, boxes.heading)))
        static = cast_rays(azimuth, empty, walls)
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
