"""The street seen from above: boxes and walls, and where straight lines meet them.

Inside, x and y are kept apart and what a line leads to comes last, [K, R], so that the compiler makes vector
instructions along it; with a last axis of two it is thirty times slower.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import struct

from beamkd.base import Array


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


class Point(NamedTuple):
    """Points or vectors of the plane, x and y apart."""

    x: Array
    y: Array

    def __add__(self, other: "Point") -> "Point":
        return Point(self.x + other.x, self.y + other.y)

    def __sub__(self, other: "Point") -> "Point":
        return Point(self.x - other.x, self.y - other.y)

    def columns(self) -> "Point":
        """Points [K] as [K, 1]."""
        return Point(self.x[:, None], self.y[:, None])

    def times(self, factor: Array) -> "Point":
        """The vectors, longer by a factor."""
        return Point(self.x * factor, self.y * factor)

    def dot(self, other: "Point") -> Array:
        """Inner product."""
        return self.x * other.x + self.y * other.y

    def cross(self, other: "Point") -> Array:
        """The z component of the cross product."""
        return self.x * other.y - self.y * other.x


ORIGIN = Point(0.0, 0.0)
"""Where the base station stands."""


def point(vectors: Array) -> Point:
    """Arrays [..., 2] with x and y taken apart."""
    return Point(vectors[..., 0], vectors[..., 1])


def no_boxes() -> Boxes:
    """An empty road."""
    return Boxes(jnp.zeros((0, 2)), jnp.zeros((0, 2)), jnp.zeros(0))


def corners(boxes: Boxes) -> list[Point]:
    """The four corners of K boxes, counter-clockwise from the rear right one, m."""
    cos, sin = jnp.cos(boxes.heading), jnp.sin(boxes.heading)
    along, across = Point(cos, sin).times(boxes.size[:, 0] / 2), Point(-sin, cos).times(boxes.size[:, 1] / 2)
    rear, front = point(boxes.centre) - along, point(boxes.centre) + along
    return [rear - across, front - across, front + across, rear + across]


def through_boxes(start: Point, step: Point, boxes: Boxes) -> tuple[Array, Array]:
    """Where lines from one start enter and leave boxes, by the slab method in a box's frame (Kay and Kajiya 1986).

    Args:
      start: [] m.
      step: [R] m, from the start to a second point of each line.
      boxes: K boxes.

    Returns:
      Shares of the step, two times [K, R]; a line that misses a box leaves it before it enters it.
    """
    cos, sin = jnp.cos(boxes.heading)[:, None], jnp.sin(boxes.heading)[:, None]  # [K, 1]
    middle = point(boxes.centre[:, None]) - start
    near_a, far_a = _slab(middle.x * cos + middle.y * sin, boxes.size[:, :1] / 2, step.x * cos + step.y * sin)
    near_b, far_b = _slab(middle.y * cos - middle.x * sin, boxes.size[:, 1:] / 2, step.y * cos - step.x * sin)
    return jnp.maximum(near_a, near_b), jnp.minimum(far_a, far_b)


def _slab(middle: Array, half: Array, slope: Array) -> tuple[Array, Array]:
    """Shares at which a line of a slope enters and leaves the slab from middle - half to middle + half."""
    # A line along the slab would give 0 / 0; a tiny slope instead gives the right, very far, crossings.
    slope = jnp.where(jnp.abs(slope) < 1e-18, 1e-18, slope)
    one, other = (middle - half) / slope, (middle + half) / slope
    return jnp.minimum(one, other), jnp.maximum(one, other)


def onto_walls(start: Point, step: Point, walls: Walls) -> tuple[Array, Array]:
    """Where lines from one start meet walls: t of start + t step = wall start + s (wall end - wall start).

    Args:
      start: [] m.
      step: [R] m, from the start to a second point of each line.
      walls: W walls.

    Returns:
      t, shares of the step, and whether a line meets a wall within its ends, 0 <= s <= 1; both [W, R].
    """
    first = point(walls.start[:, None])  # [W, 1]
    gap, span = first - start, point(walls.end[:, None]) - first
    determinant = step.cross(span)  # [W, R]
    parallel = determinant == 0
    safe = jnp.where(parallel, 1.0, determinant)
    t, s = gap.cross(span) / safe, gap.cross(step) / safe
    return t, ~parallel & (s >= 0) & (s <= 1)
