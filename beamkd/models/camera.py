"""Beam-tracking networks of motion masks: teachers and students of arXiv 2509.11419 and arXiv 2603.16116.

All take masks [B, S, H, W], 1 where something moves and 0 elsewhere, and return `Output(logits [B, S, M],
features [B, D])`. As for the networks of scans, the masks of future slots are all zero, and `future=J` appends them.
"""

import functools

import chex
from flax import linen as nn

from beamkd.base import BEAMS, Array, Encoded, Output, Shared
from beamkd.models.layers import Attention, Dropout, Gru, Linear, encode_frames, in_pieces
from beamkd.models.maps import EPSILON, Conv2d, Depthwise, Scale, greatest

PIECE = 8 * 224 * 224
"""Places of the masks that a CPU passes through the convolutions at once."""


class _Network(nn.Module):
    """What the networks share: a summary of each mask, two layers on it, a GRU, a read-out of the beams."""

    recurrences = 1
    """GRUs, one on the states of the other."""
    drops_codes = False
    """Whether dropout comes between the two layers on a summary, too."""

    def mask_encoder(self) -> nn.Module:
        """Summaries [N, E] of masks [N, H, W]; a network's own."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        masks: Array | Shared | Encoded,
        future: int = 0,
        train: bool = False,
        slots: int | None = None,
        axis_name: str | None = None,
    ) -> Output:
        """Predict beams from `masks` [B, S, H, W], or [B, L, H, W] with `future`; the rest as of the LiDAR networks.

        Windows that overlap may come as `Shared`: each mask is then encoded once; those that are encoded, as `Encoded`.
        """
        chex.assert_equal(masks.ndim, 4)
        drop = functools.partial(Dropout(self.dropout), train=train, axis_name=axis_name)
        piece = max(PIECE // (masks.shape[2] * masks.shape[3]), 1)
        summaries = encode_frames(functools.partial(in_pieces, self.mask_encoder(), piece=piece), masks, future)
        self.sow("intermediates", "frames", summaries[:, : masks.shape[1]])
        hidden = nn.relu(Linear(self.embed)(summaries))
        codes = Linear(self.embed)(drop(hidden) if self.drops_codes else hidden)
        states = nn.LayerNorm(epsilon=EPSILON)(codes)
        for _ in range(self.recurrences):
            states = Gru(self.hidden)(states)
        read = states if slots is None else states[:, -slots:]
        read = read + Attention(self.heads)(read, states) if self.heads else read
        read = drop(nn.relu(Linear(self.hidden)(read)))
        return Output(
            logits=Linear(self.beams)(read),
            features=states[:, -1],
            layers={"codes": codes[:, : masks.shape[1]], "states": states},
        )


class LongTermTeacher(_Network):
    """Five blocks of convolutions, four dense layers, two GRUs, attention over steps (arXiv 2509.11419).

    1,784,120 weights for masks of 224 x 224; the paper says 1.788 M.
    """

    channels: tuple[int, ...] = (4, 8, 16, 32, 64)
    dense: tuple[int, ...] = (512, 128)
    embed: int = 64
    hidden: int = 64
    heads: int = 8
    """Of the attention over steps; 0: there is none."""
    dropout: float = 0.3
    groups: int = 1
    """Of channels that are normalised together."""
    beams: int = BEAMS

    recurrences = 2

    def mask_encoder(self) -> nn.Module:
        """Blocks of convolutions."""
        return _Blocks(self.channels, self.dense, self.groups, attention=False)


class CollaborativeTeacher(_Network):
    """The same blocks with attention to channels and places, one GRU, one head over steps (arXiv 2603.16116).

    1,766,489 weights for masks of 224 x 224; the paper says 1,762,458.
    """

    channels: tuple[int, ...] = (4, 8, 16, 32, 64)
    dense: tuple[int, ...] = (512, 128)
    embed: int = 64
    hidden: int = 64
    heads: int = 1
    """As of `LongTermTeacher`; and so the rest."""
    dropout: float = 0.5
    groups: int = 1
    beams: int = BEAMS

    drops_codes = True

    def mask_encoder(self) -> nn.Module:
        """Blocks of convolutions, and attention."""
        return _Blocks(self.channels, self.dense, self.groups, attention=True)


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

    drops_codes = True

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
        maps = Scale(self.groups, pool=3)(maps)
        for channels in others:
            maps = nn.relu(Scale(self.groups)(Depthwise(3)(maps)))
            maps = Scale(self.groups, pool=3)(Linear(channels, use_bias=False)(maps))
        return greatest(_attended(maps))


class _Plain(nn.Module):
    """Convolutions of stride 2 with windows of 7, 5, 3, and a pooling between them."""

    channels: tuple[int, int, int]
    groups: int

    @nn.compact
    def __call__(self, masks: Array) -> Array:
        maps = masks[..., None]
        for channels, width in zip(self.channels, (7, 5, 3), strict=True):
            maps = Scale(self.groups, pool=3 if width > 3 else 0)(Conv2d(channels, width, stride=2)(maps))
        return greatest(nn.relu(maps))


class _Blocks(nn.Module):
    """Convolutions, each normalised and pooled by two, and dense layers on all that is left."""

    channels: tuple[int, ...]
    dense: tuple[int, ...]
    groups: int
    attention: bool

    @nn.compact
    def __call__(self, masks: Array) -> Array:
        maps = masks[..., None]
        for channels in self.channels:
            maps = Scale(self.groups, pool=2)(Conv2d(channels)(maps))
        layer = (_attended(maps) if self.attention else maps).reshape(maps.shape[0], -1)
        for width in self.dense:
            layer = nn.relu(Linear(width)(layer))
        return layer


def _attended(maps: Array) -> Array:
    """Maps [N, H, W, C] weighted by channel, then by place. Its layers are those of the module that calls it."""
    channels = maps.shape[-1]
    weights = nn.relu(Linear(channels // 2)(maps.mean((1, 2))))
    maps = maps * nn.sigmoid(Linear(channels)(weights))[:, None, None]
    return maps * nn.sigmoid(Conv2d(1, 7)(maps))
