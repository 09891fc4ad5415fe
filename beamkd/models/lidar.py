"""LiDAR beam-tracking networks: two teachers and the student (arXiv 2509.19092; Jiang et al., IEEE WCL 2022), and ours.

All take ranges in units of 10 m, [B, S, R], and return `Output(logits [B, S, M], features [B, D])`. The frames of
future slots are all zero: either give all S frames, or the L observed ones with `future=J`, which encodes the zero
frame once and gives the same result.
"""

import functools
from collections.abc import Callable

import chex
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import BEAMS, Array, Encoded, Output, Shared
from beamkd.models.encoders import ScanEncoder
from beamkd.models.layers import Dropout, Gru, Linear, encode_frames, in_pieces


class _Network(nn.Module):
    """What the networks share: a frame encoder, then dropout, a GRU and a linear read-out of the beams."""

    def frame_encoder(self) -> Callable[[Array], Array]:
        """Codes [N, embed] from frames [N, R]; a network's own."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        scans: Array | Shared | Encoded,
        future: int = 0,
        train: bool = False,
        slots: int | None = None,
        axis_name: str | None = None,
    ) -> Output:
        """Predict beams.

        Args:
          scans: [B, S, R], or [B, L, R] with `future`; ranges in units of 10 m, 0 where nothing moves. Windows that
            overlap may come as `Shared`: each scan is then encoded once; those that are encoded, as `Encoded`.
          future: J, all-zero frames to append.
          train: apply dropout, from the 'dropout' stream of random numbers.
          slots: read out only the last so many steps, for instance the J + 1 that are predictions; all if None.
          axis_name: the axis of devices that share the batch, of which `scans` then are this device's share.
        """
        chex.assert_equal(scans.ndim, 3)
        codes = encode_frames(self.frame_encoder(), scans, future)
        self.sow("intermediates", "frames", codes[:, : scans.shape[1]])
        return _Tail(self.hidden, self.dropout, self.beams)(codes, scans.shape[1], train, slots, axis_name)


class _Tail(nn.Module):
    """What follows the frame encoder. A module, for the names of its weights."""

    hidden: int
    dropout: float
    beams: int

    @nn.compact
    def __call__(self, codes: Array, observed: int, train: bool, slots: int | None, axis_name: str | None) -> Output:
        states = Gru(self.hidden)(Dropout(self.dropout)(codes, train, axis_name))
        read = states if slots is None else states[:, -slots:]
        return Output(
            logits=Linear(self.beams)(read),
            features=states[:, -1],
            layers={"codes": codes[:, :observed], "states": states},
        )


class GruTeacher(_Network):
    """Linear embedding of each scan, GRU, linear read-out (Jiang et al.)."""

    embed: int = 64
    hidden: int = 128
    dropout: float = 0.3
    beams: int = BEAMS

    def frame_encoder(self) -> Callable[[Array], Array]:
        """A linear embedding."""
        return Linear(self.embed)


class GruStudent(GruTeacher):
    """The same network made small: 8,096 weights for 216 rays and 64 beams."""

    embed: int = 16
    hidden: int = 24
    dropout: float = 0.1


class PatchStudent(GruStudent):
    """The student with a hidden layer per frame, of almost as many weights: 8,138 for 216 rays and 64 beams.

    Each patch of neighbouring rays is coded by the same rectified layer, and the patches' codes are embedded. Linear
    codes of ranges hardly tell vehicles in several lanes from one another.
    """

    rays: int = 6
    channels: int = 6

    def frame_encoder(self) -> Callable[[Array], Array]:
        """Rectified codes of patches, then a linear embedding."""
        code, embed = Linear(self.channels, use_bias=False), Linear(self.embed)

        def encode(scans):
            frames, rays = scans.shape
            patches = jnp.pad(scans, ((0, 0), (0, -rays % self.rays))).reshape(-1, self.rays)
            patches = jnp.pad(patches, ((0, 0), (0, 1)), constant_values=1.0)  # for a bias, faster than one beside it
            return embed(nn.relu(code(patches)).reshape(frames, -1))

        return encode


class CnnGruTeacher(_Network):
    """Two convolutions along the rays of each scan, linear embedding, GRU, linear read-out."""

    channels: tuple[int, int] = (16, 32)
    embed: int = 64
    hidden: int = 128
    dropout: float = 0.1
    beams: int = BEAMS

    def setup(self):
        """Encoder of frames; its weights are named as if its layers stood here."""
        self.encoder = ScanEncoder(self.channels, self.embed)
        nn.share_scope(self, self.encoder)

    def frame_encoder(self) -> Callable[[Array], Array]:
        """Convolutions, piece by piece where frames are many."""
        return functools.partial(in_pieces, self.encoder)
