"""Radio paths from the served car to the base station at the origin: line of sight, and single reflections.

Reflections off building fronts and off the sides of vehicles are found by the image method: the base station
is mirrored at the surface, and the straight line to the image crosses the surface where the path is
reflected.
"""

import chex
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import Array
from beamkd.sim.geometry import ORIGIN, Boxes, Point, Walls, corners, no_boxes, onto_walls, point, through_boxes
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
    boxes = no_boxes() if boxes is None else boxes
    walls = Walls(jnp.zeros((0, 2)), jnp.zeros((0, 2))) if walls is None else walls
    box_velocity = jnp.zeros_like(boxes.centre) if box_velocity is None else box_velocity
    mirrors = _mirrors(boxes, walls, box_velocity, frequency)

    car = point(position)
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

    in_sight = ~_blocked(ORIGIN, _join(car), boxes, walls, np.full(1, -1))
    clear = ~(_blocked(ORIGIN, hit, boxes, walls, mirrors.box) | _blocked(car, hit, boxes, walls, mirrors.box))
    exists = jnp.concatenate([in_sight, meets & clear])

    wavelength = LIGHT / frequency
    loss = 10 ** (-oxygen / 1000 * length / 20)
    amplitude = wavelength / (4 * jnp.pi * length) * jnp.abs(reflection) * loss
    cycles = length / wavelength
    # A surface that moves along its normal shifts the image at twice that speed.
    shift = mirrors.normal.times(2 * mirrors.velocity.dot(mirrors.normal))
    lengthening = ray.dot(_join(point(velocity), point(velocity) - shift)) / length
    arrival = _join(car, hit)
    return Paths(
        amplitude=jnp.where(exists, amplitude, 0.0),
        phase=jnp.angle(reflection) - 2 * jnp.pi * (cycles - jnp.floor(cycles)),
        delay=length / LIGHT,
        azimuth=jnp.arctan2(jnp.where(exists, arrival.y, 0.0), jnp.where(exists, arrival.x, 1.0)),
        doppler=-lengthening / wavelength,
    )


def _join(*points: Point) -> Point:
    """Points one after another along one axis."""
    return Point(
        jnp.concatenate([jnp.atleast_1d(p.x) for p in points]),
        jnp.concatenate([jnp.atleast_1d(p.y) for p in points]),
    )


def _mirrors(boxes: Boxes, walls: Walls, box_velocity: Array, frequency: float) -> Mirrors:
    count, vehicles = walls.start.shape[0], boxes.centre.shape[0]
    rear_right, *others = corners(boxes)
    start = _join(point(walls.start), rear_right, *others)
    end = _join(point(walls.end), *others, rear_right)
    span = end - start
    concrete, metal = permittivity("concrete", frequency), permittivity("metal", frequency)
    wall_eta = jnp.full(count, concrete) if walls.permittivity is None else walls.permittivity
    return Mirrors(
        start=start,
        end=end,
        # Sides run counter-clockwise: outwards is the side turned clockwise by a right angle.
        normal=Point(span.y, -span.x).times(1 / jnp.sqrt(span.dot(span))),
        two_sided=np.arange(count + 4 * vehicles) < count,
        velocity=_join(point(jnp.zeros((count, 2))), *[point(box_velocity)] * 4),
        eta=jnp.concatenate([wall_eta, jnp.full(4 * vehicles, metal)]).astype(jnp.complex64),
        box=np.concatenate([np.full(count, -1), np.tile(np.arange(vehicles), 4)]),
    )


def _reflection(car: Point, image: Point, distance: Array, mirrors: Mirrors) -> tuple[Point, Array]:
    """Where the line from each image to the car crosses its surface, m, and whether within its ends [Q]."""
    # By the signed distances of both ends, not by `onto_walls`: they also tell whether the ends are on the same side.
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
    near, far = CLEARANCE, 1 - CLEARANCE
    enter, leave = through_boxes(start, end - start, boxes)
    crosses = (jnp.maximum(near, enter) < jnp.minimum(far, leave)) & (own != np.arange(vehicles)[:, None])
    share, within = onto_walls(start, end - start, walls)
    return crosses.any(0) | (within & (share > near) & (share < far)).any(0)
