"""Beam-tracking networks of motion masks: the students of arXiv 2509.11419 and arXiv 2603.16116.

Both take masks [B, S, H, W], 1 where something moves and 0 elsewhere, and return `Output(logits [B, S, M],
features [B, D])`. As for the networks of scans, the masks of future slots are all zero, and `future=J` appends them.
"""

import functools

import chex
from flax import linen as nn

from beamkd.base import BEAMS, Array, Output, Shared
from beamkd.models.layers import Attention, Dropout, Gru, Linear, encode_frames, in_pieces
from beamkd.models.maps import EPSILON, Conv2d, Depthwise, Scale

PIECE = 8
"""Masks that a CPU passes through the convolutions at once."""


class _Network(nn.Module):
    """What the students share: a summary of each mask, two layers on it, a GRU, a read-out of the beams."""

    def mask_encoder(self) -> nn.Module:
        """Summaries [N, E] of masks [N, H, W]; a network's own."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        masks: Array | Shared,
        future: int = 0,
        train: bool = False,
        slots: int | None = None,
        axis_name: str | None = None,
    ) -> Output:
        """Predict beams from `masks` [B, S, H, W], or [B, L, H, W] with `future`; the rest as of the LiDAR networks.

        Windows that overlap may come as `Shared`: each mask is then encoded once.
        """
        chex.assert_equal(masks.ndim, 4)
        drop = functools.partial(Dropout(self.dropout), train=train, axis_name=axis_name)
        summaries = encode_frames(functools.partial(in_pieces, self.mask_encoder(), piece=PIECE), masks, future)
        hidden = nn.relu(Linear(self.embed)(summaries))
        codes = Linear(self.embed)(hidden if self.heads else drop(hidden))
        states = Gru(self.hidden)(nn.LayerNorm(epsilon=EPSILON)(codes))
        read = states if slots is None else states[:, -slots:]
        read = read + Attention(self.heads)(read, states) if self.heads else read
        read = drop(nn.relu(Linear(self.hidden)(read)))
        return Output(
            logits=Linear(self.beams)(read),
            features=states[:, -1],
            layers={"codes": codes[:, : masks.shape[1]], "states": states},
        )


class LongTermStudent(_Network):
    """Depthwise-separable convolutions, attention to channels, places and steps: 107,193 weights (arXiv 2509.11419)."""

    channels: tuple[int, int, int, int] = (18, 36, 72, 144)
    embed: int = 64
    hidden: int = 64
    heads: int = 8
    dropout: float = 0.3
    groups: int = 1
    """Of channels that are normalised together; 0: fixed scales, as published networks have."""
    beams: int = BEAMS

    def mask_encoder(self) -> nn.Module:
        """Separable convolutions."""
        return _Separable(self.channels, self.groups)


class CollaborativeStudent(_Network):
    """Three convolutions with ever smaller windows: 172,992 weights (arXiv 2603.16116)."""

    channels: tuple[int, int, int] = (32, 64, 128)
    embed: int = 64
    hidden: int = 64
    heads: int = 0
    dropout: float = 0.5
    groups: int = 1
    """As of `LongTermStudent`."""
    beams: int = BEAMS

    def mask_encoder(self) -> nn.Module:
        """Plain convolutions."""
        return _Plain(self.channels, self.groups)


class _Separable(nn.Module):
    """One convolution, then some that take channels and places in turn, and what they find weighted twice."""

    channels: tuple[int, ...]
    groups: int

    @nn.compact
    def __call__(self, masks: Array) -> Array:
        first, *others = self.channels
        maps = Conv2d(first, 3, stride=2, use_bias=False)(masks[..., None])
        maps = Scale(self.groups, pool=True)(maps)
        for channels in others:
            maps = nn.relu(Scale(self.groups)(Depthwise(3)(maps)))
            maps = Scale(self.groups, pool=True)(Linear(channels, use_bias=False)(maps))
        last = self.channels[-1]
        weights = nn.relu(Linear(last // 2)(maps.mean((1, 2))))
        maps = maps * nn.sigmoid(Linear(last)(weights))[:, None, None]
        maps = maps * nn.sigmoid(Conv2d(1, 7)(maps))
        return maps.max((1, 2))


class _Plain(nn.Module):
    """Convolutions of stride 2 with windows of 7, 5, 3, and a pooling between them."""

    channels: tuple[int, int, int]
    groups: int

    @nn.compact
    def __call__(self, masks: Array) -> Array:
        maps = masks[..., None]
        for channels, width in zip(self.channels, (7, 5, 3), strict=True):
            maps = Scale(self.groups, pool=width > 3)(Conv2d(channels, width, stride=2)(maps))
        return nn.relu(maps).max((1, 2))
