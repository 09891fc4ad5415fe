"""Sequences of scans without a teacher: noise and moving blobs.

Inversion has to do better than they do: a student learns from them, too. Ranges are in units of 10 m, as networks take
them.
"""

import jax
import jax.numpy as jnp

from beamkd.base import OBSERVED, SCAN_RAYS, Array

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
