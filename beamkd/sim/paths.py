"""Radio paths from the served car to the base station at the origin: line of sight, and single reflections.

Reflections off building fronts and off the sides of vehicles are found by the image method: the base station
is mirrored at the surface, and the straight line to the image crosses the surface where the path is
reflected.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import Array
from beamkd.sim.lidar import Boxes, Walls
from beamkd.sim.materials import fresnel, permittivity

LIGHT = 299_792_458.0
"""Speed of light, m/s."""

CARRIER = 60e9
"""Hz, of DeepSense testbed 1."""

OXYGEN = 15.0
"""dB/km, absorption by oxygen at 60 GHz at sea level, ITU-R P.676."""

CLEARANCE = 1e-4
"""Share of a leg next to its ends where nothing is taken to block it: its ends lie on surfaces."""


@struct.dataclass
class Paths:
    """Paths of one or more positions: the line of sight, then off each wall, then off the vehicles' sides.

    Where the amplitude is 0, the other fields are finite and mean nothing.

    Attributes:
      amplitude: [..., P] float32, received field over sent one; exactly 0 where there is no such path.
      phase: [..., P] float32, rad, of the carrier on arrival, reflection included.
      delay: [..., P] float32, s.
      azimuth: [..., P] float32, rad from broadside, of arrival at the base station.
      doppler: [..., P] float32, Hz, positive while the path shortens.
    """

    amplitude: Array
    phase: Array
    delay: Array
    azimuth: Array
    doppler: Array


class Point(NamedTuple):
    """Points or vectors of the plane, x and y apart: a last axis of two would be many times slower."""

    x: Array
    y: Array

    def __add__(self, other: "Point") -> "Point":
        return Point(self.x + other.x, self.y + other.y)

    def __sub__(self, other: "Point") -> "Point":
        return Point(self.x - other.x, self.y - other.y)

    def times(self, factor: Array) -> "Point":
        """The vectors, longer by a factor."""
        return Point(self.x * factor, self.y * factor)

    def dot(self, other: "Point") -> Array:
        """Inner product."""
        return self.x * other.x + self.y * other.y

    def cross(self, other: "Point") -> Array:
        """The z component of the cross product."""
        return self.x * other.y - self.y * other.x


@struct.dataclass
class Mirrors:
    """Q flat surfaces that reflect: all walls, then the four sides of each box.

    `normal` points away from the solid, or to either side of a wall (`two_sided` [Q]); `velocity` is in m/s;
    `eta` [Q] is the complex permittivity; `box` [Q] is the vehicle that a side belongs to, -1 for walls.
    """

    start: Point
    end: Point
    normal: Point
    two_sided: Array
    velocity: Point
    eta: Array
    box: np.ndarray


def trace_paths(
    position: Array,
    boxes: Boxes | None = None,
    walls: Walls | None = None,
    velocity: Array | None = None,
    box_velocity: Array | None = None,
    frequency: float = CARRIER,
    oxygen: float = OXYGEN,
) -> Paths:
    """Line of sight and single specular reflections between a car and the base station at the origin.

    Free-space loss lambda / (4 pi d) (Friis 1946), Fresnel reflection of ITU-R P.2040-3 for vertical
    polarization, oxygen absorption of ITU-R P.676. A path that anything blocks, or whose point of reflection
    misses its finite surface, has amplitude 0.

    Args:
      position: [2] float, m, of the car's antenna.
      boxes: K vehicles, the served car not among them: they block, their metal sides reflect. None for none.
      walls: W building fronts: they block and reflect. None for none.
      velocity: [2] float, m/s, of the antenna; None at rest.
      box_velocity: [K, 2] float, m/s, of the other vehicles; None at rest.
      frequency: Hz.
      oxygen: dB/km.

    Returns:
      P = 1 + W + 4 K paths.
    """
    position = jnp.asarray(position, jnp.float32)
    velocity = jnp.zeros(2) if velocity is None else jnp.asarray(velocity, jnp.float32)
    chex.assert_shape([position, velocity], (2,))
    chex.assert_type([position, velocity], float)
    boxes = Boxes(jnp.zeros((0, 2)), jnp.zeros((0, 2)), jnp.zeros(0)) if boxes is None else boxes
    walls = Walls(jnp.zeros((0, 2)), jnp.zeros((0, 2))) if walls is None else walls
    box_velocity = jnp.zeros_like(boxes.centre) if box_velocity is None else box_velocity
    mirrors = _mirrors(boxes, walls, box_velocity, frequency)

    car = _point(position)
    distance = mirrors.start.dot(mirrors.normal)  # [Q] m from the base station to the surface, signed
    image = mirrors.normal.times(2 * distance)  # the base station, mirrored
    hit, meets = _reflection(car, image, distance, mirrors)
    # From the base station, or from its image, to the car. Where no reflection meets its surface the image may be the
    # car itself; any other vector keeps values and gradients finite.
    unfolded = Point(jnp.where(meets, (car - image).x, 1.0), jnp.where(meets, (car - image).y, 0.0))
    ray = _join(car, unfolded)
    length = jnp.sqrt(ray.dot(ray))
    cosine = jnp.abs(unfolded.dot(mirrors.normal)) / length[1:]
    reflection = jnp.concatenate([jnp.ones(1, jnp.complex64), fresnel(cosine, mirrors.eta)[0]])

    base = Point(jnp.zeros(()), jnp.zeros(()))
    in_sight = ~_blocked(base, _join(car), boxes, walls, np.full(1, -1))
    clear = ~(_blocked(base, hit, boxes, walls, mirrors.box) | _blocked(car, hit, boxes, walls, mirrors.box))
    exists = jnp.concatenate([in_sight, meets & clear])

    wavelength = LIGHT / frequency
    loss = 10 ** (-oxygen / 1000 * length / 20)
    amplitude = wavelength / (4 * jnp.pi * length) * jnp.abs(reflection) * loss
    cycles = length / wavelength
    # A surface that moves along its normal shifts the image at twice that speed.
    shift = mirrors.normal.times(2 * mirrors.velocity.dot(mirrors.normal))
    lengthening = ray.dot(_join(_point(velocity), _point(velocity) - shift)) / length
    arrival = _join(car, hit)
    return Paths(
        amplitude=jnp.where(exists, amplitude, 0.0),
        phase=jnp.angle(reflection) - 2 * jnp.pi * (cycles - jnp.floor(cycles)),
        delay=length / LIGHT,
        azimuth=jnp.arctan2(jnp.where(exists, arrival.y, 0.0), jnp.where(exists, arrival.x, 1.0)),
        doppler=-lengthening / wavelength,
    )


def _point(vectors: Array) -> Point:
    """Arrays [..., 2] with x and y taken apart."""
    return Point(vectors[..., 0], vectors[..., 1])


def _join(*points: Point) -> Point:
    """Points one after another along one axis."""
    return Point(
        jnp.concatenate([jnp.atleast_1d(p.x) for p in points]),
        jnp.concatenate([jnp.atleast_1d(p.y) for p in points]),
    )


def _mirrors(boxes: Boxes, walls: Walls, box_velocity: Array, frequency: float) -> Mirrors:
    count, vehicles = walls.start.shape[0], boxes.centre.shape[0]
    corners = _corners(boxes)
    start = _join(_point(walls.start), *corners)
    end = _join(_point(walls.end), *corners[1:], corners[0])
    span = end - start
    concrete, metal = permittivity("concrete", frequency), permittivity("metal", frequency)
    wall_eta = jnp.full(count, concrete) if walls.permittivity is None else walls.permittivity
    return Mirrors(
        start=start,
        end=end,
        # Sides run counter-clockwise: outwards is the side turned clockwise by a right angle.
        normal=Point(span.y, -span.x).times(1 / jnp.sqrt(span.dot(span))),
        two_sided=np.arange(count + 4 * vehicles) < count,
        velocity=_join(_point(jnp.zeros((count, 2))), *[_point(box_velocity)] * 4),
        eta=jnp.concatenate([wall_eta, jnp.full(4 * vehicles, metal)]).astype(jnp.complex64),
        box=np.concatenate([np.full(count, -1), np.tile(np.arange(vehicles), 4)]),
    )


def _corners(boxes: Boxes) -> list[Point]:
    """The four corners of K boxes, counter-clockwise from the rear right one, m."""
    cos, sin = jnp.cos(boxes.heading), jnp.sin(boxes.heading)
    along, across = Point(cos, sin).times(boxes.size[:, 0] / 2), Point(-sin, cos).times(boxes.size[:, 1] / 2)
    rear, front = _point(boxes.centre) - along, _point(boxes.centre) + along
    return [rear - across, front - across, front + across, rear + across]


def _reflection(car: Point, image: Point, distance: Array, mirrors: Mirrors) -> tuple[Point, Array]:
    """Where the line from each image to the car crosses its surface, m, and whether within its ends [Q]."""
    base_side, car_side = -distance, (car - mirrors.start).dot(mirrors.normal)  # [Q] m, signed
    reflects = (base_side * car_side > 0) & (mirrors.two_sided | (base_side > 0))
    share = base_side / jnp.where(reflects, base_side + car_side, 1.0)
    hit = image + (car - image).times(share)
    span = mirrors.end - mirrors.start
    along = (hit - mirrors.start).dot(span) / span.dot(span)
    return hit, reflects & (along >= 0) & (along <= 1)


def _blocked(start: Point, end: Point, boxes: Boxes, walls: Walls, own: np.ndarray) -> Array:
    """Whether legs from one start to [L] ends cross a wall, or a box not their own (-1: none): [L] bool."""
    vehicles = boxes.centre.shape[0]
    if not vehicles and not walls.start.shape[0]:
        return jnp.zeros(own.shape, bool)
    crosses = _crosses_box(start, end, boxes) & (own != np.arange(vehicles)[:, None])
    return crosses.any(0) | _crosses_wall(start, end, walls).any(0)


def _crosses_box(start: Point, end: Point, boxes: Boxes) -> Array:
    """Legs from one start to [L] ends against K boxes: [K, L] bool. Slab method in the box's frame."""
    column = Boxes(boxes.centre[:, None], boxes.size[:, None], boxes.heading[:, None])
    along = Point(jnp.cos(column.heading), jnp.sin(column.heading))  # [K, 1]
    across = Point(-along.y, along.x)
    origin, step = start - _point(column.centre), end - start
    enter, leave = CLEARANCE, 1 - CLEARANCE
    for axis, half in ((along, column.size[..., 0] / 2), (across, column.size[..., 1] / 2)):
        slope, offset = axis.dot(step), axis.dot(origin)
        slope = jnp.where(jnp.abs(slope) < 1e-12, 1e-12, slope)
        one, other = (-half - offset) / slope, (half - offset) / slope
        enter = jnp.maximum(enter, jnp.minimum(one, other))
        leave = jnp.minimum(leave, jnp.maximum(one, other))
    return enter < leave


def _crosses_wall(start: Point, end: Point, walls: Walls) -> Array:
    """Legs from one start to [L] ends against W walls: [W, L] bool."""
    first, last = _point(walls.start[:, None]), _point(walls.end[:, None])  # [W, 1]
    step, span, gap = end - start, last - first, first - start
    determinant = step.cross(span)
    safe = jnp.where(determinant == 0, 1.0, determinant)
    t, s = gap.cross(span) / safe, gap.cross(step) / safe
    inside = (t > CLEARANCE) & (t < 1 - CLEARANCE) & (s >= 0) & (s <= 1)
    return inside & (determinant != 0)
