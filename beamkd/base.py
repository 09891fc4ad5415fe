"""The nouns that all of beamkd shares: drives, windows, batches, model outputs, metadata.

Each is a frozen dataclass and a pytree. Symbols in shapes: F frames, W windows, B batch, L observed frames,
J future slots, S = L + J network steps, M beams, D features.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax import struct

Array = jax.Array

OBSERVED = 8
"""L of `make_windows`, unless it is told: frames that are seen; the last one is the current slot."""

FUTURE = 3
"""J of `make_windows`, likewise: slots ahead of the current one whose beam is predicted too."""

SCAN_RAYS = 216
"""R: rays of a LiDAR scan of DeepSense 6G."""

BEAMS = 64
"""M: beams of the codebook of DeepSense 6G."""

SLOT_SECONDS = 0.111
"""Seconds from slot to slot in DeepSense 6G."""

MISSING = -100
"""Label of a slot without a measured beam, for instance past the end of a drive. Any negative label means this."""


class InputError(ValueError):
    """What the user gave cannot be used: one line that names file, row or flag, what was expected, what was found.

    Entry points print it and exit with status 2.
    """


def expect_at_least(config: Any, **least: float) -> None:
    """Raise `InputError` unless the named fields of `config` are finite and at least so much."""
    for name, bound in least.items():
        if not bound <= getattr(config, name) < float("inf"):
            raise InputError(f"{name}: expected {bound} or more, found {getattr(config, name)}")


def cached_method(method: Callable) -> Callable:
    """A method whose results are kept by its arguments, which are positional, and go with their object.

    `functools.cache` of a method keeps the object, and all that it has, until the process ends.
    """
    kept = f"_{method.__name__}_by_arguments"

    @functools.wraps(method)
    def call(self, *args):
        found = vars(self).setdefault(kept, {})
        if args not in found:
            found[args] = method(self, *args)
        return found[args]

    return call


def named_keys(keys: Array, name: str) -> Array:
    """Keys for one purpose, [members] or a single one as `keys`; one purpose more changes no numbers of the others."""

    def fold(key):
        return jax.random.fold_in(key, zlib.crc32(name.encode()))

    return jax.vmap(fold)(keys) if keys.ndim else fold(keys)


@struct.dataclass
class Drives:
    """Frames of several drives. The frames of one drive stand together, in the order of time.

    Attributes:
      sensors: what was sensed in each frame, by name, [F, ...]. 'lidar': [F, 216] float32, range in metres of each
        ray, static clutter removed, 0 where nothing moves. 'radar': [F, 256, 64] float32, range-angle maps; 'doppler':
        [F, C, 64] float32, Doppler-angle maps; 'beat': [F, 4, 256, C] complex64, what these are made of. 'camera':
        [F, 224, 224] uint8, gray; 'masks': [F, 224, 28] uint8, motion masks, bits packed as by `numpy.packbits`.
        'gps': [F, 2] float32, as `position`, but as a receiver has it.
      power: [F, M] float32, receive power of each beam, linear, in a unit of the recording's own.
      position: [F, 2] float32, metres from the base station: along broadside, and to the left of it, along the road.
        Azimuth grows to the left; DeepSense numbers its beams from left to right.
      drive: [F] int32, number of the drive that a frame belongs to.
      slot: [F] int32, time within the drive in slots, from 0. Has a gap where a bad frame was dropped.
    """

    sensors: Mapping[str, Array]
    power: Array
    position: Array
    drive: Array
    slot: Array

    @property
    def beam(self) -> Array:
        """Best beam of each frame, [F] int32, from 0."""
        return self.power.argmax(-1).astype("int32")


@struct.dataclass
class Windows:
    """Windows over drives: rows of indices into frames that are stored once.

    Attributes:
      frames: the drives' F frames.
      observed: [W, L] int32, the frames that are seen.
      predicted: [W, J + 1] int32, the frames whose beam is asked for: the current slot's (the last that is seen) and
        the J after it; negative where there is none.
      drive: [W] int32, number of the window's drive.
    """

    frames: Drives
    observed: Array
    predicted: Array
    drive: Array

    def __len__(self) -> int:
        """Number of windows, W."""
        return self.observed.shape[0]


@struct.dataclass
class Rows:
    """Some rows of a dataset, padded so that unequal selections stack.

    Attributes:
      index: [N] int32, row numbers; any where padded.
      mask: [N] bool, False where padded.
    """

    index: Array
    mask: Array


@dataclasses.dataclass(frozen=True)
class Stream:
    """A dataset on the host.

    Attributes:
      read: read(rows) -> the examples of some rows, [members, N] of them, as NumPy arrays [members, N, ...]. Another
        thread calls it.
      prepare: prepare(context, examples) -> a dataset of these examples. Runs on the device, for one member.
      context: arrays that stay on the device, for instance a teacher's weights, [members, ...].
    """

    read: Callable[[Rows], Any]
    prepare: Callable[[Any, Any], Any] = lambda context, examples: examples
    context: Any = None


@struct.dataclass
class Batch:
    """Windows with their frames gathered, as networks and losses take them.

    Attributes:
      sensors: what was sensed, by name, [B, L, ...], in the units of `Drives`.
      labels: [B, J + 1] int32, best beams from 0; negative where missing.
      power: [B, J + 1, M] float32, receive power of each beam, linear; zeros where missing.
      mask: [B] bool, False for rows that only fill the batch.
    """

    sensors: Mapping[str, Array]
    labels: Array
    power: Array
    mask: Array

    def window(self, first: int, frames: int) -> "Batch":
        """The same with the sensors' `frames` frames from `first` on alone."""
        return self.replace(sensors={name: steps(seen, first, frames) for name, seen in self.sensors.items()})


@struct.dataclass
class Shared:
    """Frames of windows that overlap, each stored once. Networks take it in place of frames [B, L, ...].

    Attributes:
      frames: [U, ...], U frames.
      rows: [B, L] int32, which of them each window has.
    """

    frames: Array
    rows: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frames as windows would have them, (B, L, ...)."""
        return (*self.rows.shape, *self.frames.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes of `shape`."""
        return len(self.shape)

    @property
    def dtype(self):
        """Of the frames."""
        return self.frames.dtype


@struct.dataclass
class Encoded:
    """Frames of windows whose codes are known. Networks take it in place of frames [B, L, ...].

    Attributes:
      codes: [B, L, E], of a network's frame encoder.
      frame: shape of one frame.
    """

    codes: Array
    frame: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frames, (B, L, ...)."""
        return (*self.codes.shape[:2], *self.frame)

    @property
    def ndim(self) -> int:
        """Number of axes of `shape`."""
        return len(self.shape)

    @property
    def dtype(self):
        """Of the codes."""
        return self.codes.dtype


def steps(frames: Array | Shared, first: int, count: int) -> Array | Shared:
    """Of frames [B, L, ...] the `count` ones from the step `first` on."""
    if isinstance(frames, Shared):
        return frames.replace(rows=frames.rows[:, first : first + count])
    return frames[:, first : first + count]


@struct.dataclass
class Output:
    """What a beam-tracking network returns.

    Attributes:
      logits: [B, S, M] float32, scores of the beams after each step; the last J + 1 steps are the predictions.
      features: [B, D] float32, state of the recurrent layer after the last step.
      layers: what further layers give at each step, by name, [B, steps, size]. 'codes': of the frame encoder, for the
        observed frames; 'states': of the recurrent layer.
    """

    logits: Array
    features: Array
    layers: Mapping[str, Array] = struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its weights.

    Attributes:
      module: the Flax module.
      params: what its `apply` takes, of one member, or of several with axes of members in front.
      inputs: what it takes, by name, and the shape of one example: {'lidar': (L, R)} of a network of scans,
        {'noise': (N,)} of a generator. Of several, its `apply` takes a mapping by name.
    """

    module: nn.Module
    params: Any
    inputs: Mapping[str, tuple[int, ...]]


def as_taken(inputs: Mapping[str, Any]) -> Any:
    """Inputs by name as a network takes them: one by itself, several as they are."""
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))


Forward = Callable[..., Output]
"""A network as a function: forward(params, batch, key, axis_name=None) -> Output. The key is dropout's; None: no
dropout. `axis_name` is given only where devices along that axis share a batch, of which each then has a share."""


@struct.dataclass
class Metadata:
    """The summary of its features that a teacher's owner hands over with the teacher, in place of data.

    Attributes:
      mean: [D] float32, mean of the features over the owner's training windows.
      variance: [D] float32, their unbiased variance.
      layers: the same of further layers by name, [steps, size]: those of `Output`, and 'logits'.
    """

    mean: Array
    variance: Array
    layers: Mapping[str, "Metadata"] = struct.field(default_factory=dict)
