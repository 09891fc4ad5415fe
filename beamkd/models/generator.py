"""The generator that inverts a teacher: from noise to a sequence of scans (arXiv 2509.19092)."""

import chex
from flax import linen as nn

from beamkd.base import OBSERVED, SCAN_RAYS, Array
from beamkd.models.layers import Linear


class Generator(nn.Module):
    """Two linear layers with ReLU between and behind: ranges are not negative, and 0 where nothing moves."""

    noise: int = 500
    hidden: int = 128
    frames: int = OBSERVED
    rays: int = SCAN_RAYS

    @nn.compact
    def __call__(self, noise: Array) -> Array:
        """Map standard normal noise [B, `noise`] to scans [B, `frames`, `rays`], ranges in units of 10 m."""
        chex.assert_rank(noise, 2)
        hidden = nn.relu(Linear(self.hidden)(noise))
        scans = nn.relu(Linear(self.frames * self.rays)(hidden))
        return scans.reshape(-1, self.frames, self.rays)
