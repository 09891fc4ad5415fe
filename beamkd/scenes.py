"""What sensors see of generated scenes, softly enough for a gradient: the same scene for any sensor.

A generator that inverts a teacher draws scenes; one of these functions makes of them what the teacher takes. Each takes
scenes and the shape of one frame, and gives frames [B, T, ...] in the units of networks.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from beamkd.base import SLOT_SECONDS, Array, InputError
from beamkd.models.scene import SPACING, Scene
from beamkd.sim import Boxes, Camera, Chirps, Scatterers, camera_frame, doppler_angle_of, range_angle_of, reflect
from beamkd.sim import camera as camera_sensor
from beamkd.sim import radar as radar_sensor
from beamkd.sim.camera import BODY as CAR
from beamkd.sim.camera import MOVED, blur
from beamkd.sim.radar import BODY as RADAR_BODY
from beamkd.sim.radar import COUPLED
from beamkd.sim.street import BODY as SEEN_BY_LIDAR
from beamkd.sim.street import LIDAR_OFFSET

METRES = 10.0
"""m, of a scene's unit."""

EDGE = 1.0
"""Rays over which an object fades at its sides; a hard edge would have no gradient."""

NEAREST = 0.1
"""In units of 10 m: nothing comes nearer."""

SOFT = 0.3
"""Of the change at which a pixel has moved: how gradually it does so, for gradients alone."""

LEVEL = 1.0
"""Gray levels that a pixel has to change by, at least."""


def scans(scene: Scene, shape: tuple[int]) -> Array:
    """LiDAR scans [B, T, R] in units of 10 m; where several objects are seen, of the farthest.

    Inside, arrays are [B, objects, T] and [B, objects, T, R].
    """
    (rays,) = shape
    away = jnp.sqrt(scene.across**2 + scene.along**2 + NEAREST**2)
    centre = 0.5 * rays + jnp.arctan2(scene.along, scene.across) / SPACING
    offset = jnp.arange(rays) - centre[..., None]
    half = scene.half / away
    inside = jax.nn.sigmoid((half[..., None] - jnp.abs(offset)) / EDGE)
    ranges = jax.nn.relu(away[..., None] + 0.01 * scene.tilt[..., None] * offset)
    return (ranges * inside * scene.present[..., None]).max(1)


def range_angle_maps(scene: Scene, shape: tuple[int, int]) -> Array:
    """Range-angle maps [B, T, 256, 64] of the objects' sides; what is half there reflects half as much."""
    return _maps(range_angle_of, scene)


def doppler_angle_maps(scene: Scene, shape: tuple[int, int]) -> Array:
    """Doppler-angle maps [B, T, 128, 64], likewise."""
    return _maps(doppler_angle_of, scene)


def places(scene: Scene, shape: tuple[int]) -> Array:
    """Positions [B, T, 2] of the first object, in units of 10 m; it is the one that a station serves."""
    along = scene.along[:, 0]
    return jnp.stack([jnp.broadcast_to(scene.across[:, 0], along.shape), along], -1)


def _maps(map_of: Callable[[Scatterers, Chirps], Array], scene: Scene) -> Array:
    """Radar maps [B, T, ...] as `map_of` makes them of points."""
    step = METRES * (scene.along[..., 1:] - scene.along[..., :-1])[..., :1]
    speed = jnp.concatenate([jnp.zeros_like(step), step], -1) / SLOT_SECONDS  # [B, objects, 2] m/s
    boxes = _boxes(scene, RADAR_BODY)
    still = jax.random.key(0)  # the points of an object move by themselves in the same way in every frame

    def one(boxes, speed, present):
        points = reflect(still, boxes, speed)
        share = jnp.repeat(present, len(points.amplitude) // len(present))
        return map_of(points.replace(amplitude=points.amplitude * share), COUPLED)

    times = boxes.centre.shape[1]
    speeds, present = (jnp.repeat(part[:, None], times, axis=1) for part in (speed, scene.present[..., 0]))
    return _by_frame(one, boxes, speeds, present)


def motion(scene: Scene, shape: tuple[int, int]) -> Array:
    """Motion masks [B, T, H, W]: 0 or 1, with the gradient of a gradual change between them."""
    camera = Camera(rows=shape[0], columns=shape[1])
    step = scene.along[..., 1:2] - scene.along[..., :1]
    boxes = _boxes(scene.replace(along=jnp.concatenate([scene.along[..., :1] - step, scene.along], -1)), CAR)

    def one(boxes, present):
        return camera_frame(boxes, camera=camera, present=present)

    present = jnp.repeat(scene.present[:, None, :, 0], boxes.centre.shape[1], axis=1)
    gray = blur(_by_frame(one, boxes, present))
    change = jnp.abs(gray[:, 1:] - gray[:, :-1])
    least = jax.lax.stop_gradient(jnp.maximum(MOVED * change.max((-1, -2), keepdims=True), LEVEL))
    gradual = jax.nn.sigmoid((change / least - 1) / SOFT)
    return gradual + jax.lax.stop_gradient((change > least).astype(gradual.dtype) - gradual)


def _by_frame(render: Callable[..., Array], *scenes: Any) -> Array:
    """Frames [B, T, ...] of what stands in each, [B, T, ...], rendered one after another, and again for a gradient."""
    shape = jax.tree.leaves(scenes)[0].shape[:2]
    flat = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), scenes)
    frames = jax.lax.map(jax.checkpoint(lambda one: render(*one)), flat)
    return frames.reshape(*shape, *frames.shape[1:])


def _boxes(scene: Scene, body: tuple[float, float]) -> Boxes:
    """Boxes [B, T, objects] in m, as long as a sensor sees a car for which a LiDAR sees `SEEN_BY_LIDAR`."""
    along = METRES * scene.along.swapaxes(1, 2)  # [B, T, objects]
    across = jnp.broadcast_to(METRES * scene.across.swapaxes(1, 2), along.shape)
    longer = 2 * METRES * SPACING * scene.half.swapaxes(1, 2) / SEEN_BY_LIDAR[0]
    size = jnp.stack([jnp.broadcast_to(body[0] * longer, along.shape), jnp.full(along.shape, body[1])], -1)
    heading = jnp.where(scene.along[..., -1:] < scene.along[..., :1], -jnp.pi / 2, jnp.pi / 2).swapaxes(1, 2)
    return Boxes(jnp.stack([across, along], -1), size, jnp.broadcast_to(heading, along.shape))


RENDERERS: dict[str, Callable[[Scene, tuple[int, ...]], Array]] = {
    "lidar": scans,
    "radar": range_angle_maps,
    "doppler": doppler_angle_maps,
    "masks": motion,
    "gps": places,
}
"""By sensor."""

OFFSETS: dict[str, tuple[float, float]] = {
    "lidar": LIDAR_OFFSET,
    "radar": radar_sensor.OFFSET,
    "doppler": radar_sensor.OFFSET,
    "masks": camera_sensor.OFFSET,
    "gps": (0.0, 0.0),
}
"""m, across and along the road: where a sensor sees an object, from its antenna."""


def render(scene: Scene, spec: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Array]:
    """What networks take of scenes, by sensor, [B, T, ...].

    A scene is as the first of the sensors, in the order of `RENDERERS`, sees it; others see it where `OFFSETS` say.

    Args:
      scene: of B scenes, T frames long.
      spec: of the sensors, as `Dataset.spec` gives them; of their shapes the first axis does not matter.

    Raises:
      InputError: a sensor that has no renderer.
    """
    if not set(spec) <= set(RENDERERS):
        raise InputError(f"sensors: expected some of {', '.join(RENDERERS)} for scenes, found {', '.join(spec)}")
    first = next(name for name in RENDERERS if name in spec)
    return {name: RENDERERS[name](_seen_from(scene, first, name), leaf.shape[1:]) for name, leaf in spec.items()}


def _seen_from(scene: Scene, first: str, name: str) -> Scene:
    """A scene in the coordinates of one sensor, as another sees it."""
    across, along = ((there - here) / METRES for there, here in zip(OFFSETS[name], OFFSETS[first], strict=True))
    return scene.replace(across=scene.across + across, along=scene.along + along) if first != name else scene
