"""Sensors for recordings that come without them, simulated along the car's measured positions."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from beamkd.base import SLOT_SECONDS, Array, InputError, named_keys
from beamkd.sim import camera, radar
from beamkd.sim.geometry import Boxes
from beamkd.sim.gps import gps_fixes
from beamkd.sim.lidar import RAYS, cast_rays, lidar_scan
from beamkd.sim.simulate import DRAWS_AS
from beamkd.sim.street import BODY, LIDAR_OFFSET

ALONG_ROAD = jnp.pi / 2
"""Radians from broadside: the way the car heads."""

AT_ONCE = 8
"""Frames that the radar sees at a time, so that what it takes stays in a processor's caches."""


@jax.jit
def cast_track(position: Array) -> Array:
    """Scans of one car at measured positions, without noise or clutter.

    Args:
      position: [F, 2] float32, metres along broadside and along the road, of the GPS tracker.

    Returns:
      [F, 216] float32, range in metres of each ray, 0 where nothing is hit.
    """
    ranges = jax.vmap(lambda place: cast_rays(jnp.asarray(RAYS), _car(place, LIDAR_OFFSET, BODY)))(position)
    return jnp.where(jnp.isfinite(ranges), ranges, 0.0)


def sense_track(key: Array, position: Array, drive: Array, sensors: Sequence[str] = ("lidar",)) -> dict[str, Array]:
    """What sensors see of one car at measured positions, in the geometry of Scenarios 8 and 9.

    A sensor draws from a key of its own, so that one more changes nothing of the others; the two maps of the radar are
    of the same reflections.

    Args:
      key: PRNG key of noise and reflections.
      position: [F, 2] float32, metres along broadside and along the road, of the GPS tracker.
      drive: [F] int32, number of the drive that a frame belongs to; its frames stand together, a slot apart.
      sensors: names, out of `TRACKED`.

    Returns:
      By name: 'lidar' [F, 216] float32, m; 'radar' range-angle maps [F, 256, 64] float32; 'doppler' Doppler-angle maps
      [F, 128, 64] float32; 'camera' gray frames [F, 224, 224] uint8; 'gps' what a receiver says, [F, 2] float32, m,
      taking the positions for true.

    Raises:
      InputError: a sensor that cannot be simulated.
    """
    unknown = sorted(set(sensors) - set(TRACKED))
    if isinstance(sensors, str) or unknown:
        raise InputError(f"sensors: expected names out of {sorted(TRACKED)}, found {sensors!r}")
    position = jnp.asarray(position, jnp.float32)
    velocity = _velocity(position, drive)
    keys = {name: named_keys(key, DRAWS_AS.get(name, name)) for name in sensors}
    return {name: TRACKED[name](keys[name], position, velocity, drive) for name in sensors}


@jax.jit
def _velocity(position: Array, drive: Array) -> Array:
    """Velocity [F, 2] m/s by the frames before and after in the same drive; 0 of a single one."""
    before, after = (jnp.roll(drive, shift) == drive for shift in (1, -1))
    before, after = before.at[0].set(False), after.at[-1].set(False)
    start = jnp.where(before[:, None], jnp.roll(position, 1, 0), position)
    end = jnp.where(after[:, None], jnp.roll(position, -1, 0), position)
    slots = jnp.maximum(before.astype(int) + after, 1)[:, None]
    return (end - start) / (slots * SLOT_SECONDS)


@jax.jit
def _scan(key: Array, position: Array, velocity: Array, drive: Array) -> Array:
    scan = jax.vmap(lambda key, place: lidar_scan(key, _car(place, LIDAR_OFFSET, BODY)))
    return scan(jax.random.split(key, len(position)), position)


@functools.partial(jax.jit, static_argnums=0)
def _radar(
    map_of: Callable[[radar.Scatterers, radar.Chirps], Array],
    key: Array,
    position: Array,
    velocity: Array,
    drive: Array,
) -> Array:
    """Maps [F, ...] of what the radar sees, by a function of the points of a frame."""

    def one(frame):
        key, place, velocity = frame
        points = radar.reflect(key, *radar.turned(_car(place, radar.OFFSET, radar.BODY), velocity[None]))
        return map_of(points, radar.COUPLED)

    frames = jax.random.split(key, len(position)), position, velocity
    return jax.lax.map(one, frames, batch_size=AT_ONCE)


@jax.jit
def _gray(key: Array, position: Array, velocity: Array, drive: Array) -> Array:
    def one(frame):
        place, velocity = frame
        heading = jnp.where(velocity[1] > 0, ALONG_ROAD, -ALONG_ROAD)  # of one that stands, that of the testbed's car
        car = _car(place, camera.OFFSET, camera.BODY).replace(heading=heading[None])
        return camera.as_levels(camera.camera_frame(car))

    return jax.lax.map(one, (position, velocity))


@jax.jit
def _fixes(key: Array, position: Array, velocity: Array, drive: Array) -> Array:
    return gps_fixes(key, position, drive)


TRACKED = {
    "lidar": _scan,
    "radar": functools.partial(_radar, radar.range_angle_of),
    "doppler": functools.partial(_radar, radar.doppler_angle_of),
    "camera": _gray,
    "gps": _fixes,
}
"""Sensors that can be simulated along a track: of a key, positions and velocities, [F, 2] both, and drives [F]."""


def _car(place: Array, offset: tuple[float, float], size: tuple[float, float]) -> Boxes:
    """What a sensor sees of the car whose antenna is at a place [2] m."""
    return Boxes((place + jnp.array(offset))[None], jnp.array([size]), jnp.array([ALONG_ROAD]))
