"""Sequences without a teacher: noise, moving blobs, and what sensors see on simulated streets.

Inversion has to do better than they do: a student learns from them, too. Noise and blobs are scans of the LiDAR, in
units of 10 m, as networks take them.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from beamkd.base import OBSERVED, SCAN_RAYS, Array, Drives, Windows
from beamkd.data import make_windows, with_masks
from beamkd.data.masks import SOURCE
from beamkd.sim import Family, Street, simulate

DRIVES = 600
"""That are simulated at first, or fewer for few windows; twice as many, and so on, if these have too few."""

EACH = 8
"""Windows of a drive, that fewer drives are made for."""

UNUSED = 1_000_000
"""Number of the first street of the family that nobody studies."""

FARTHEST = 3.0
"""Greatest range, in units of 10 m."""


def uniform_noise(key: Array, count: int, frames: int = OBSERVED, rays: int = SCAN_RAYS) -> Array:
    """Every range uniform from 0 to 30 m, [count, frames, rays]."""
    return jax.random.uniform(key, (count, frames, rays), maxval=FARTHEST)


def sparse_noise(key: Array, count: int, frames: int = OBSERVED, rays: int = SCAN_RAYS, share: float = 0.1) -> Array:
    """As `uniform_noise`, but only a `share` of the rays sees anything, each frame anew."""
    hit_key, range_key = jax.random.split(key)
    hit = jax.random.bernoulli(hit_key, share, (count, frames, rays))
    return jnp.where(hit, uniform_noise(range_key, count, frames, rays), 0)


def moving_blobs(key: Array, count: int, frames: int = OBSERVED, rays: int = SCAN_RAYS) -> Array:
    """One or two blobs of constant range that move steadily over zeros, [count, frames, rays].

    Uniform: the middle, up to 20 rays outside; the speed, up to 6 rays a frame either way; half the width, 2 to 25
    rays; the range, 3 to 30 m. A second blob is there three times in ten.
    """
    keys = jax.random.split(key, 5)

    def draw(key, least, most):
        return jax.random.uniform(key, (count, 2, 1, 1), minval=least, maxval=most)

    start, speed = draw(keys[0], -20, rays + 20), draw(keys[1], -6, 6)
    half, distance = draw(keys[2], 2, 25), draw(keys[3], 0.3, FARTHEST)
    second = jax.random.bernoulli(keys[4], 0.3, (count, 1, 1, 1))
    present = jnp.concatenate([jnp.ones_like(second), second], axis=1)
    centre = start + speed * jnp.arange(frames)[:, None]
    inside = (jnp.abs(jnp.arange(rays) - centre) < half) & present
    return jnp.where(inside, distance, 0).max(1)


def unused_streets(family: Family, drives: int, like: Street | None = None) -> Street:
    """A street of a family for each drive, of those that nobody studies; `like` as of `Family.street`."""
    return family.streets(range(UNUSED, UNUSED + drives), like or Street())


def streets_of_all_kinds(drives: int) -> Street:
    """The same of the widest family."""
    return unused_streets(Family(), drives)


def simulated_windows(
    key: Array,
    street_of: Callable[[int], Street],
    count: int,
    spec: Mapping[str, jax.ShapeDtypeStruct],
    future: int,
    ahead: int = 0,
    devices: int | None = None,
) -> Windows:
    """Windows of simulated drives, `count` of them or more.

    Args:
      key: PRNG key.
      street_of: street_of(drives) -> the street, or one for each drive.
      count: how many at least.
      spec: shapes [L, ...] of what networks take, by sensor, as `Dataset.spec` gives them.
      future: J.
      ahead: frames beyond L that are seen, too.
      devices: how many of this process's may simulate; all if None.

    Raises:
      InputError: no drive has so many frames.
    """
    (observed,) = {leaf.shape[0] for leaf in spec.values()}
    drives, windows = min(DRIVES, -(-count // EACH)), ()
    while len(windows) < count:
        windows = make_windows(
            simulated_drives(key, street_of(drives), drives, spec, devices), observed + ahead, future
        )
        drives *= 2
    return windows


def simulated_drives(
    key: Array, street: Street, drives: int, spec: Mapping[str, jax.ShapeDtypeStruct], devices: int | None = None
) -> Drives:
    """Drives with what networks take; arguments as of `simulate` and `simulated_windows`."""
    sensors = [SOURCE.get(name, name) for name in spec]
    simulated = simulate(key, street, drives, sensors, devices)
    return with_masks(simulated, spec["masks"].shape[1]) if "masks" in spec else simulated
