"""A generator of scenes: objects that move along a road past a station. What sensors see of them is drawn elsewhere."""

import math

import chex
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from beamkd.base import OBSERVED, SCAN_RAYS, Array
from beamkd.models.layers import Linear

TRAITS = 6
"""Of an object: bearing, speed, width, range, tilt, presence; each about standard normal at first."""

SPACING = math.radians(0.6)
"""rad, between two rays of a LiDAR's scan, by which lengths and speeds of objects are measured."""

SPREAD = SPACING * SCAN_RAYS * 0.28
"""rad, of an object's bearing before training."""

GAIN = 3.0
"""What the layers say is about 0.3 before training. Times this, it soon outweighs the noise that is added to it."""


@struct.dataclass
class Scene:
    """Objects that go straight along a road, in units of 10 m; broadside is across it.

    Attributes:
      across: [B, objects, 1], of an object's middle.
      along: [B, objects, T], in each frame.
      half: [B, objects, 1], half its length over `SPACING`.
      tilt: [B, objects, 1], how its range changes from its right to its left side.
      present: [B, objects, 1], whether it is there, from 0 to 1.
    """

    across: Array
    along: Array
    half: Array
    tilt: Array
    present: Array


class SceneGenerator(nn.Module):
    """Noise to the traits of objects, and these to scenes.

    Built in is that an object goes straight and steadily along a road. Where objects are, how fast, how wide and how
    far, is learned. A scene can therefore go on: with `ahead`, it has so many further frames.
    """

    noise: int = 64
    hidden: int = 128
    objects: int = 1
    frames: int = OBSERVED
    ahead: int = 0

    @nn.compact
    def __call__(self, noise: Array) -> Scene:
        """Map standard normal noise [B, `noise`] to scenes of `frames` + `ahead` frames."""
        chex.assert_rank(noise, 2)
        hidden = nn.relu(Linear(self.hidden)(noise))
        hidden = nn.relu(Linear(self.hidden)(hidden))
        count = self.objects * TRAITS
        traits = GAIN * Linear(count)(hidden) + noise[:, :count]
        return self.scene(traits.reshape(-1, self.objects, TRAITS))

    def scene(self, traits: Array) -> Scene:
        """Scenes of objects with `traits` [B, objects, 6]: bearing, range and tilt are those in the current frame."""
        bearing, speed, width, distance, tilt, presence = jnp.moveaxis(traits, -1, 0)[..., None]
        angle, now = SPREAD * bearing, jnp.exp(0.3 * distance)
        time = jnp.arange(1.0 - self.frames, 1.0 + self.ahead)
        first = jnp.arange(self.objects)[:, None] == 0  # is mostly there before training; others mostly are not
        return Scene(
            across=now * jnp.cos(angle),
            along=now * jnp.sin(angle) + 3 * SPACING * speed * time,
            half=8 * jnp.exp(0.4 * width) * now,
            tilt=tilt,
            present=nn.sigmoid(4 * presence + jnp.where(first, 4.0, -2.0)),
        )
