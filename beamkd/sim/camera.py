"""The camera of the base station: gray frames of vehicles on a street, and the motion masks that networks take.

A pinhole camera stands at the origin, above the street. A vehicle is a body on wheels and a cabin with windows. All
its faces are flat; those farther away are painted first, and each covers a pixel by the share that is inside its edges.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, InputError
from beamkd.sim.geometry import Boxes, Walls
from beamkd.sim.street import Street, Traffic, seen_as

WHITE = 255.0
"""Gray level of white."""

OFFSET = (-2.08, -0.04)
"""m, along broadside and along the road, from the car's GPS antenna to the middle of the car that is seen. It, and the
defaults of `Camera`, `Car` and `Paint`, were fitted within what cars look like to the even drives of Scenario 9, by the
beams that a published network (arXiv 2509.11419, 8 frames, distilled) reads off the masks."""


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera, whose frames are shrunk as networks take them; the defaults are those of Scenarios 8 and 9.

    Attributes:
      focal: pixels of the sensor.
      yaw: degrees of azimuth that it looks to.
      above: m, over the street.
      horizon: pixels of the sensor from its middle up to the horizon.
      sensor: pixels of the sensor, rows and columns.
      rows: H, of the frames.
      columns: W, of the frames.
    """

    focal: float = 396.8
    yaw: float = 3.44
    above: float = 0.949
    horizon: float = 130.6
    sensor: tuple[int, int] = (540, 960)
    rows: int = 224
    columns: int = 224

    def __post_init__(self):
        for name in ("focal", "above", "rows", "columns"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name}: expected a finite number above 0, found {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Car:
    """Shape of a car of `length` and `width`, in m; other vehicles are as much longer, wider and taller.

    Attributes:
      length: along the heading.
      width: across it; heights go with it.
      clearance: of the body over the street.
      belt: height at which the body ends and the cabin begins.
      roof: height of the roof.
      bonnet: from the front to the foot of the windscreen.
      boot: from the rear to the foot of the rear screen.
      rake: that the front and rear screen lean inwards, from foot to roof.
      lean: that the sides of the cabin lean inwards.
      wheel: radius of a wheel.
      hub: radius of the bright part of a wheel.
      axles: from the front to the front axle, and from the rear to the rear one.
      frame: of a screen or side of the cabin, share around the glass.
      pillar: between the two side windows, share of the side.
      shadow: reach of the shadow on the street beyond the near side.
    """

    length: float = 4.526
    width: float = 1.79
    clearance: float = 0.264
    belt: float = 0.865
    roof: float = 1.539
    bonnet: float = 1.15
    boot: float = 0.386
    rake: tuple[float, float] = (0.599, 0.312)
    lean: float = 0.155
    wheel: float = 0.325
    hub: float = 0.099
    axles: tuple[float, float] = (1.05, 0.688)
    frame: float = 0.034
    pillar: float = 0.146
    shadow: float = 0.0


@dataclasses.dataclass(frozen=True)
class Paint:
    """Gray levels from 0, black, to 1, white."""

    road: float = 0.284
    verge: float = 0.466
    """Of all that stands beyond the road, and of the sky."""
    shadow: float = 0.404
    side: float = 0.252
    end: float = 0.645
    """Front and rear."""
    deck: float = 0.492
    """Bonnet, boot and roof."""
    cabin: float = 0.039
    glass: float = 0.337
    screen: float = 0.0
    wheel: float = 0.035
    hub: float = 0.088
    wall: float = 0.7


BODY = (Car.length, Car.width)
"""m, of the served car."""

VERGE = 14.7
"""m, from the camera across the road to where it ends."""

WALL_HEIGHT = 6.0
"""m, of building fronts."""

NEAREST = 0.5
"""m of depth; a vehicle that reaches nearer than this is not painted."""


def project(place: Array, camera: Camera = Camera()) -> tuple[Array, Array]:
    """Where points of the world stand in a frame.

    Args:
      place: [..., 3] float32, m: along broadside, along the road to the left, and up from the street.
      camera: the camera.

    Returns:
      [..., 2] float32, row and column, the middle of the first pixel at (0.5, 0.5); and depth [...] m. Rows and columns
      of points nearer than `NEAREST` mean nothing.
    """
    chex.assert_axis_dimension(place, -1, 3)
    yaw = np.deg2rad(camera.yaw)
    depth = np.cos(yaw) * place[..., 0] + np.sin(yaw) * place[..., 1]
    left = np.cos(yaw) * place[..., 1] - np.sin(yaw) * place[..., 0]
    scale = camera.focal / jnp.maximum(depth, NEAREST)
    height, width = camera.sensor
    row = height / 2 - camera.horizon + scale * (camera.above - place[..., 2])
    column = width / 2 - scale * left
    return jnp.stack([row * (camera.rows / height), column * (camera.columns / width)], -1), depth


def observe(key: Array, traffic: Traffic, street: Street) -> Array:
    """Gray frames of a drive, [T, H, W] uint8. Nothing in them is random."""
    walls = street.walls if street.buildings else None
    frame = jax.custom_batching.sequential_vmap(lambda vehicles: as_levels(camera_frame(vehicles, walls)))
    return jax.vmap(frame)(seen_as(traffic, OFFSET, BODY))


def as_levels(frame: Array) -> Array:
    """Whole gray levels, uint8."""
    return jnp.round(frame).astype(jnp.uint8)


def camera_frame(
    vehicles: Boxes,
    walls: Walls | None = None,
    camera: Camera = Camera(),
    car: Car = Car(),
    paint: Paint = Paint(),
    present: Array | None = None,
) -> Array:
    """One gray frame.

    Vehicles are painted by their distance across the road, the farthest first; a wall hides those behind it.

    Args:
      vehicles: K boxes, m.
      walls: W building fronts, m, or None.
      camera: the camera.
      car: shape of the vehicles.
      paint: gray levels.
      present: [K] float, how much of each vehicle is there: 1 for what is solid. All of them if None.

    Returns:
      [H, W] float32, from 0, black, to 255.
    """
    chex.assert_shape([vehicles.centre, vehicles.size], (vehicles.heading.shape[0], 2))
    frame = _background(camera, paint)
    hidden = []  # by each wall: its distance, and the share of each pixel that it covers
    if walls is not None:
        for start, end in zip(walls.start, walls.end, strict=True):
            covered = _wall(start, end, camera)
            frame = _over(frame, covered, paint.wall)
            hidden.append(((start[0] + end[0]) / 2, covered))
    order = jnp.argsort(-vehicles.centre[:, 0])
    for k in range(len(vehicles.heading)):
        box = jax.tree.map(lambda part: part[order[k]], vehicles)  # noqa: B023, called at once
        free = 1.0 if present is None else present[order[k]]
        for distance, covered in hidden:
            free = free * jnp.where(distance < box.centre[0], 1 - covered, 1.0)
        frame = _with_vehicle(frame, box, free, camera, car, paint)
    return WHITE * frame


def _background(camera: Camera, paint: Paint) -> Array:
    """The empty street [H, W]."""
    edge = project(jnp.array([VERGE, 0.0, 0.0]), camera)[0][0]
    verge = jnp.clip(edge - jnp.arange(camera.rows), 0, 1)[:, None]
    return jnp.broadcast_to(paint.road + verge * (paint.verge - paint.road), (camera.rows, camera.columns))


def _over(frame: Array, covered: Array, gray: float) -> Array:
    return frame + covered * (gray - frame)


def _wall(start: Array, end: Array, camera: Camera) -> Array:
    """Share of each pixel that a building front covers, seen from either side."""
    foot = jnp.stack([start, end])
    ground, roof = (jnp.pad(foot, ((0, 0), (0, 1)), constant_values=up) for up in (0.0, WALL_HEIGHT))
    points, depth = project(jnp.concatenate([ground, roof[::-1]]), camera)
    seen = jnp.maximum(*(_inside(_edges(points, turn), camera) for turn in (1.0, -1.0)))
    return jnp.where(depth.min() > NEAREST, seen, 0.0)


def _with_vehicle(frame: Array, box: Boxes, free: Array, camera: Camera, car: Car, paint: Paint) -> Array:
    """A frame with one vehicle, its farthest parts painted first; `free` is the share of each pixel that shows it."""
    cos, sin = jnp.cos(box.heading), jnp.sin(box.heading)
    ahead = -(box.centre * jnp.stack([cos, sin])).sum() > 0  # the camera, of the vehicle's middle
    left = jnp.where((box.centre * jnp.stack([sin, -cos])).sum() > 0, 1.0, -1.0)
    long, wide = box.size[0] / car.length, box.size[1] / car.width

    def seen(points):
        along, across, up = jnp.moveaxis(points * jnp.stack([long, wide * left, wide]), -1, 0)
        place = [box.centre[0] + cos * along - sin * across, box.centre[1] + sin * along + cos * across, up]
        return project(jnp.stack(place, -1), camera)

    faces, wheels = (
        jnp.where(ahead, jnp.array(front), jnp.array(rear))
        for front, rear in zip(_shape(car, ahead=True), _shape(car, ahead=False), strict=True)
    )
    corners, depth = seen(faces)
    edges = jax.vmap(_edges, (0, None))(corners, left)
    rims, _ = seen(wheels)
    free = jnp.where(depth.min() > NEAREST, free, 0.0)

    def face(frame, part):
        edges, gray = part
        return _over(frame, free * _inside(edges, camera), gray), None

    def disc(frame, part):
        rim, radius, gray = part
        return _over(frame, free * _disc(rim[0], rim[1:] - rim[0], radius, camera), gray), None

    low = jnp.array([paint.shadow, paint.end, paint.side, paint.deck])
    high = jnp.array([paint.cabin, paint.screen, paint.cabin, paint.glass, paint.glass, paint.deck])
    radii, tyres = jnp.array([1.0, car.hub / car.wheel] * 2), jnp.array([paint.wheel, paint.hub] * 2)
    frame, _ = jax.lax.scan(face, frame, (edges[: len(low)], low))
    frame, _ = jax.lax.scan(disc, frame, (jnp.repeat(rims, 2, axis=0), radii, tyres))
    return jax.lax.scan(face, frame, (edges[len(low) :], high))[0]


def _shape(car: Car, ahead: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is seen of a car from its left, before or behind it: faces [11, 4, 3] and wheels [2, 3, 3].

    Coordinates are m along the car, to its left, and up, from the street below its middle. The corners of a face turn
    to the left as seen from outside. Of a wheel there are its middle, and points of its rim before and above that.
    """
    front, half, lean = car.length / 2, car.width / 2, car.lean
    foot_front, foot_rear = front - car.bonnet, car.boot - front
    top_front, top_rear = foot_front - car.rake[0], foot_rear + car.rake[1]

    def upright(start, end, low, high):  # from its left to its right end as seen from outside
        return np.array([(*start, low), (*end, low), (*end, high), (*start, high)])

    def flat(rear, ahead, right, left, up):
        return np.array([(rear, right, up), (ahead, right, up), (ahead, left, up), (rear, left, up)])

    side = upright((front, half), (-front, half), car.clearance, car.belt)
    foot = np.array([(foot_front, half, car.belt), (foot_rear, half, car.belt)])
    top = np.array([(top_front, half - lean, car.roof), (top_rear, half - lean, car.roof)])
    flank, other = np.stack([*foot, top[1], top[0]]), np.array([1, -1, 1])  # and what takes to the other side
    if ahead:
        end = upright((front, -half), (front, half), car.clearance, car.belt)
        screen = np.stack([other * foot[0], foot[0], top[0], other * top[0]])
    else:
        end = upright((-front, half), (-front, -half), car.clearance, car.belt)
        screen = np.stack([foot[1], other * foot[1], other * top[1], top[1]])
    edge, middle = car.frame, (0.5 - car.pillar / 2, 0.5 + car.pillar / 2)
    faces = [
        flat(-front, front, -half, half + car.shadow, 0.0),
        end,
        side,
        flat(-front, front, -half, half, car.belt),
        screen,
        _pane(screen, edge, 1 - edge, edge),
        flank,
        _pane(flank, edge, middle[0], edge),
        _pane(flank, middle[1], 1 - edge, edge),
        flat(top_rear, top_front, lean - half, half - lean, car.roof),
    ]
    axles = (front - car.axles[0], car.axles[1] - front)
    points = np.array([(0, 0, 0), (car.wheel, 0, 0), (0, 0, car.wheel)])
    wheels = [np.array([axle, half, car.wheel]) + points for axle in axles]
    return np.array(faces, np.float32), np.array(wheels, np.float32)


def _pane(face: np.ndarray, start: float, end: float, edge: float) -> np.ndarray:
    """The part of a face [4, 3] from a share of its width to another, `edge` of its height from top and bottom."""
    across = np.array([start, end, end, start])[:, None]
    up = np.array([edge, edge, 1 - edge, 1 - edge])[:, None]
    low, high = face[0] + across * (face[1] - face[0]), face[3] + across * (face[2] - face[3])
    return low + up * (high - low)


def _edges(points: Array, turn: Array) -> Array:
    """Edges of a polygon with corners [E, 2] in a frame: distances inwards are a · row + b · column + c, [E, 3].

    Corners turn to the left as seen in the frame, or to the right where `turn` is -1; where they turn otherwise, the
    polygon shows its back, and no point is inside.
    """
    step = jnp.roll(points, -1, axis=0) - points
    row, column = turn * jnp.stack([-step[:, 1], step[:, 0]]) / jnp.maximum(jnp.hypot(*step.T), 1e-6)
    return jnp.stack([row, column, -(row * points[:, 0] + column * points[:, 1])], -1)


def _inside(edges: Array, camera: Camera) -> Array:
    """Share of each pixel [H, W] inside a polygon: 1 less the shares that its edges cut off, each as if alone."""
    rows, columns = 0.5 + np.arange(camera.rows, dtype=np.float32), 0.5 + np.arange(camera.columns, dtype=np.float32)
    inside = 1.0
    for row, column, offset in edges:
        inside = inside - jnp.clip(0.5 - (row * rows)[:, None] - (column * columns + offset), 0, 1)
    return jnp.maximum(inside, 0.0)


def _disc(middle: Array, rim: Array, radius: float, camera: Camera) -> Array:
    """Share of each pixel [H, W] inside an ellipse with half-axes `rim` [2, 2], times `radius`, as a disc is seen."""
    rows, columns = 0.5 + np.arange(camera.rows, dtype=np.float32), 0.5 + np.arange(camera.columns, dtype=np.float32)
    determinant = rim[0, 0] * rim[1, 1] - rim[0, 1] * rim[1, 0]
    area = jnp.where(jnp.abs(determinant) < 1e-6, 1e-6, determinant)
    row, column = (rows - middle[0])[:, None], columns - middle[1]
    away = jnp.hypot((row * rim[1, 1] - column * rim[1, 0]) / area, (column * rim[0, 0] - row * rim[0, 1]) / area)
    return jnp.clip((radius - away) * jnp.sqrt(jnp.abs(area)) + 0.5, 0, 1)


BLUR = np.exp(-0.5 * np.arange(-4, 5) ** 2.0)
"""Gaussian of one pixel's width, to four of them on both sides."""

MOVED = 0.1
"""Share of a frame's greatest change over which a pixel has moved."""


def motion_masks(gray: Array) -> Array:
    """Where each frame differs from the one before: blurred, subtracted, over a tenth of the greatest difference.

    The masks of arXiv 2509.11419. Beyond its borders a frame goes on as its mirror image. Where nothing changes,
    nothing has moved.

    Args:
      gray: [..., T, H, W], frames one after another, of any type and scale.

    Returns:
      [..., T - 1, H, W] bool.
    """
    blurred = blur(gray.astype(jnp.float32))
    change = jnp.abs(blurred[..., 1:, :, :] - blurred[..., :-1, :, :])
    return change > MOVED * change.max((-1, -2), keepdims=True)


def blur(frames: Array) -> Array:
    """Frames [..., H, W] under a Gaussian of one pixel's width."""
    reach = len(BLUR) // 2
    for axis in (-1, -2):
        padding = [(0, 0)] * frames.ndim
        padding[axis] = (reach, reach)
        size = frames.shape[axis]
        # The barrier keeps XLA from computing what it pads anew for each tap.
        padded = jax.lax.optimization_barrier(jnp.pad(frames, padding, mode="symmetric"))
        frames = sum(
            float(weight) * jax.lax.slice_in_dim(padded, tap, tap + size, axis=frames.ndim + axis)
            for tap, weight in enumerate(BLUR / BLUR.sum())
        )
    return frames
