"""Networks of one frame: the current beam from what a sensor sees now, without memory."""

import chex
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import BEAMS, Array, Output
from beamkd.models.layers import Linear, in_pieces
from beamkd.models.maps import Conv2d

PIECE = 16
"""Maps that a CPU passes through the convolutions at once."""


class _Convolutions(nn.Module):
    """Convolutions of maps [N, H, W], the last three followed by a mean over 2 x 2 cells: [N, size]."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, maps: Array) -> Array:
        layer = maps[..., None]
        for number, channels in enumerate(self.channels):
            layer = Conv2d(channels)(layer)
            pooled = nn.avg_pool(layer, (2, 2), (2, 2)) if number >= len(self.channels) - 3 else layer
            layer = nn.relu(pooled)
        return layer.reshape(len(layer), -1)


class RadarLeNet(nn.Module):
    """Five convolutions and three layers on one range-angle map (Demirhan and Alkhateeb, WCNC 2022).

    It sees one frame at a time. For the slots ahead it says what it says of the current one.
    """

    channels: tuple[int, ...] = (8, 16, 8, 4, 2)
    """Of the convolutions; the last three are followed by a mean over 2 x 2 cells."""
    hidden: tuple[int, ...] = (256, 128)
    beams: int = BEAMS

    @nn.compact
    def __call__(
        self,
        maps: Array,
        future: int = 0,
        train: bool = False,
        slots: int | None = None,
        axis_name: str | None = None,
    ) -> Output:
        """Predict beams from `maps` [B, L, H, W], H and W multiples of 8; other arguments as of the LiDAR networks."""
        chex.assert_rank(maps, 4)
        batch, length = maps.shape[:2]
        layer = in_pieces(_Convolutions(self.channels), maps.reshape(batch * length, *maps.shape[2:]), PIECE)
        for features in self.hidden:
            layer = nn.relu(Linear(features)(layer))
        logits = Linear(self.beams)(layer).reshape(batch, length, -1)
        ahead = jnp.broadcast_to(logits[:, -1:], (batch, future, self.beams))
        logits = jnp.concatenate([logits, ahead], axis=1)
        features = layer.reshape(batch, length, -1)
        return Output(logits if slots is None else logits[:, -slots:], features[:, -1], {"codes": features})
