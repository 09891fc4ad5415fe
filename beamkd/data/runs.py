"""Runs of windows: a row of a dataset is then several windows that follow one another, whose frames are read once."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import Array, Batch, InputError, Rows, Shared, Windows
from beamkd.data.windows import Split, gather, on_host


@struct.dataclass
class Runs:
    """Windows in runs, each of windows that begin one frame apart.

    Attributes:
      windows: W windows.
      first: [N] int32, the first window of each run.
      count: [N] int32, how many it has, up to `length`.
      length: R.
    """

    windows: Windows
    first: Array
    count: Array
    length: int = struct.field(pytree_node=False)

    def __len__(self) -> int:
        """Number of runs, N."""
        return len(self.first)


def make_runs(windows: Windows, length: int) -> Runs:
    """All windows in runs of `length` or, where a drive ends or has a gap, fewer.

    Raises:
      InputError: length < 1, or the windows are streamed.
    """
    if length < 1:
        raise InputError(f"runs: expected 1 or more windows in each, found {length}")
    if on_host(windows):
        raise InputError("runs: expected windows that live on the device, found some that are streamed")
    begin, drive = np.asarray(windows.observed)[:, 0], np.asarray(windows.drive)
    breaks = (np.diff(begin) != 1) | (np.diff(drive) != 0)
    starts = np.flatnonzero(np.r_[True, breaks])
    lengths = np.diff(np.r_[starts, len(begin)])
    first = np.concatenate(
        [np.arange(start, start + size, length) for start, size in zip(starts, lengths, strict=True)]
    )
    ends = np.repeat(starts + lengths, -(-lengths // length))
    return Runs(
        windows, *jax.device_put((first.astype(np.int32), np.minimum(ends - first, length).astype(np.int32))), length
    )


def split_of_runs(runs: Runs, split: Split) -> Split:
    """The runs of each part of a split of windows, all of a drive being in one part, [members, N']."""
    drive, of_run = np.asarray(runs.windows.drive), np.asarray(runs.windows.drive)[np.asarray(runs.first)]

    def part(rows):
        index, mask = np.asarray(rows.index), np.asarray(rows.mask)
        members = [np.flatnonzero(np.isin(of_run, drive[own[valid]])) for own, valid in zip(index, mask, strict=True)]
        longest = max(map(len, members))
        padded = [np.pad(own, (0, longest - len(own))) for own in members]
        real = [np.arange(longest) < len(own) for own in members]
        return Rows(np.stack(padded).astype(np.int32), np.stack(real))

    return jax.device_put(Split(part(split.train), part(split.val), part(split.test)))


def gather_runs(runs: Runs, rows: Rows) -> Batch:
    """All windows of some runs, [B · R, ...], a run's one after the other; frames are `Shared` among them.

    Args:
      runs: N runs.
      rows: B of them. What a run lacks in windows is padding.
    """
    windows, place = runs.windows, jnp.arange(runs.length)
    first, all_there = runs.first[rows.index], runs.count[rows.index]
    within = jnp.minimum(place, all_there[:, None] - 1)
    mask = (place < all_there[:, None]) & rows.mask[:, None]
    blind = windows.replace(frames=windows.frames.replace(sensors={}))
    batch = gather(blind, Rows((first[:, None] + within).reshape(-1), mask.reshape(-1)))

    observed = windows.observed.shape[1]
    span = runs.length + observed - 1  # frames of a run
    frames = windows.observed[first, 0][:, None] + jnp.arange(span)
    frames = jnp.minimum(frames, len(windows.frames.power) - 1).reshape(-1)
    begins = span * jnp.arange(len(first))[:, None] + within
    seen = (begins[..., None] + jnp.arange(observed)).reshape(-1, observed)
    return batch.replace(sensors={name: Shared(each[frames], seen) for name, each in windows.frames.sensors.items()})
