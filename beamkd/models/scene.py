"""A generator that draws objects moving over the rays of a scan."""

import math

import chex
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import OBSERVED, SCAN_RAYS, Array
from beamkd.models.layers import Linear

TRAITS = 6
"""Of an object: bearing, speed, width, range, tilt, presence; each about standard normal at first."""

GAIN = 3.0
"""What the layers say is about 0.3 before training. Times this, it soon outweighs the noise that is added to it."""

EDGE = 1.0
"""Rays over which an object fades at its sides; a hard edge would have no gradient."""

NEAREST = 0.1
"""In units of 10 m: nothing comes nearer."""


class SceneGenerator(nn.Module):
    """Noise to the traits of objects, and these to scans.

    Two things are built in: an object is of one piece and goes straight and steadily along a road, and a station beside
    the road sees it by bearing. Where objects are, how fast, how wide and how far, is learned. A scene can therefore go
    on: with `ahead`, so many further frames of it are drawn.
    """

    noise: int = 64
    hidden: int = 128
    objects: int = 1
    frames: int = OBSERVED
    rays: int = SCAN_RAYS
    spacing: float = math.radians(0.6)
    ahead: int = 0

    @nn.compact
    def __call__(self, noise: Array) -> Array:
        """Map standard normal noise [B, `noise`] to scans [B, `frames` + `ahead`, `rays`], ranges in units of 10 m."""
        chex.assert_rank(noise, 2)
        hidden = nn.relu(Linear(self.hidden)(noise))
        hidden = nn.relu(Linear(self.hidden)(hidden))
        count = self.objects * TRAITS
        traits = GAIN * Linear(count)(hidden) + noise[:, :count]
        return self._draw(traits.reshape(-1, self.objects, TRAITS))

    def _draw(self, traits: Array) -> Array:
        """Scans [B, L, R] of objects with `traits` [B, objects, 6]; where several are seen, of the farthest.

        Bearing, width, range and tilt are those in the current frame. Broadside is across the road. Inside, arrays of
        objects are [B, objects, 1], then [B, objects, L] and [B, objects, L, R].
        """
        bearing, speed, width, distance, tilt, presence = jnp.moveaxis(traits, -1, 0)[..., None]
        angle, now = self.spacing * self.rays * 0.28 * bearing, jnp.exp(0.3 * distance)
        time = jnp.arange(1.0 - self.frames, 1.0 + self.ahead)
        across, along = now * jnp.cos(angle), now * jnp.sin(angle) + 3 * self.spacing * speed * time
        away = jnp.sqrt(across**2 + along**2 + NEAREST**2)
        first = jnp.arange(self.objects)[:, None] == 0  # is mostly there before training; others mostly are not
        present = nn.sigmoid(4 * presence + jnp.where(first, 4.0, -2.0))[..., None]
        centre = 0.5 * self.rays + jnp.arctan2(along, across) / self.spacing
        offset = jnp.arange(self.rays) - centre[..., None]
        half = 8 * jnp.exp(0.4 * width) * now / away
        inside = nn.sigmoid((half[..., None] - jnp.abs(offset)) / EDGE)
        ranges = nn.relu(away[..., None] + 0.01 * tilt[..., None] * offset)
        return (ranges * inside * present).max(1)
