"""Beam-tracking networks of any sensors: an encoder of frames for each, a GRU, a read-out of the beams."""

import functools
from collections.abc import Mapping

import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import BEAMS, Array, Encoded, InputError, Output
from beamkd.models.encoders import ENCODERS
from beamkd.models.failures import SensorDropout
from beamkd.models.layers import Dropout, Gru, Linear, encode_frames, in_pieces


class Tracker(nn.Module):
    """Codes of each sensor's frames, joined by a linear map where there are several, then a GRU and a read-out.

    Frames of future slots are all zero, for every sensor: either give all S frames, or the L observed ones with
    `future=J`, which encodes the zero frame once and gives the same result. Sizes are those of a teacher or a student.
    """

    sensors: tuple[str, ...]
    channels: tuple[int, int]
    embed: int
    hidden: int
    dropout: float
    sensor_dropout: float = 0.0
    """Probability with which a sensor is left out of a window while the network trains."""
    beams: int = BEAMS

    @nn.compact
    def __call__(
        self,
        frames: Array | Encoded | Mapping[str, Array | Encoded],
        future: int = 0,
        train: bool = False,
        slots: int | None = None,
        axis_name: str | None = None,
    ) -> Output:
        """Predict beams.

        Args:
          frames: of one sensor an array [B, S, ...], or [B, L, ...] with `future`, as `sensor_input` gives it; of
            several such arrays by name. Frames that are encoded may come as `Encoded`.
          future: J, all-zero frames to append.
          train: apply dropout, from the 'dropout' stream of random numbers.
          slots: read out only the last so many steps, for instance the J + 1 that are predictions; all if None.
          axis_name: the axis of devices that share the batch, of which `frames` then are this device's share.

        Raises:
          InputError: a sensor that has no encoder, or whose frames are not given.
        """
        seen = self._by_sensor(frames)
        codes = self._joined([self._codes(name, seen[name], future) for name in self.sensors], future, train, axis_name)
        states = Gru(self.hidden)(Dropout(self.dropout)(codes, train, axis_name))
        read = states if slots is None else states[:, -slots:]
        return Output(
            logits=Linear(self.beams)(read),
            features=states[:, -1],
            layers={"codes": codes[:, : codes.shape[1] - future], "states": states},
        )

    def _codes(self, name: str, frames: Array | Encoded, future: int) -> Array:
        """Codes [B, L + J + 1, embed] of a sensor's frames, the last that of an all-zero one."""
        encoder = ENCODERS[name](self.channels, self.embed, name=name)
        codes = encode_frames(functools.partial(in_pieces, encoder), frames, future + 1)
        self.sow("intermediates", f"{name}_frames", codes[:, : frames.shape[1]])
        return codes

    def _joined(self, codes: list[Array], future: int, train: bool, axis_name: str | None) -> Array:
        """Codes [B, L + J, embed] of all sensors, of each [B, L + J + 1, embed]."""
        if len(codes) == 1:
            return codes[0][:, :-1]
        each = jnp.stack(codes, 1)
        kept = SensorDropout(self.sensor_dropout)(each[:, :, :-1], each[0, :, -1], train, axis_name)
        return Linear(self.embed)(jnp.concatenate([*kept.swapaxes(0, 1)], axis=-1))

    def _by_sensor(self, frames: Array | Encoded | Mapping[str, Array | Encoded]) -> Mapping[str, Array | Encoded]:
        unknown = [name for name in self.sensors if name not in ENCODERS]
        if unknown or not self.sensors:
            raise InputError(f"sensors: expected names out of {', '.join(ENCODERS)}, found {self.sensors}")
        seen = frames if isinstance(frames, Mapping) else {self.sensors[0]: frames}
        if not set(self.sensors) <= seen.keys():
            raise InputError(f"frames: expected those of {', '.join(self.sensors)}, found {', '.join(seen)}")
        return seen


class SensorTeacher(Tracker):
    """A large one."""

    sensors: tuple[str, ...] = ("lidar",)
    channels: tuple[int, int] = (16, 32)
    embed: int = 64
    hidden: int = 128
    dropout: float = 0.1


class SensorStudent(Tracker):
    """A small one."""

    sensors: tuple[str, ...] = ("lidar",)
    channels: tuple[int, int] = (4, 8)
    embed: int = 16
    hidden: int = 24
    dropout: float = 0.1
