"""Windows over drives, their splits, and batches gathered from them."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import FUTURE, MISSING, OBSERVED, Array, Batch, Drives, InputError, Rows, Windows

FRACTIONS = {"random": (0.60, 0.15, 0.25), "inorder": (0.70, 0.15, 0.15)}
"""Shares of the drives for training, validation and test, by the order in which drives are dealt out."""


@struct.dataclass
class Split:
    """The rows of each part of a dataset."""

    train: Rows
    val: Rows
    test: Rows


def make_windows(drives: Drives, observed: int = OBSERVED, future: int = FUTURE) -> Windows:
    """All windows over drives: one from each frame that `observed` − 1 consecutive slots of its drive follow.

    Args:
      drives: F frames. Those that are memory-mapped (`open_drives`) stay on the host, and so do their windows.
      observed: L, frames seen, the last of which is the current slot.
      future: J, slots ahead whose beam is asked for too. Where the drive has ended, or a frame was dropped, there is
        no label.

    Returns:
      W windows.

    Raises:
      InputError: no drive has `observed` consecutive slots.
    """
    if observed < 1 or future < 0:
        raise InputError(f"windows: expected observed >= 1 and future >= 0, found {observed} and {future}")
    drive, slot = np.asarray(drives.drive), np.asarray(drives.slot)
    count = len(drive)
    first = np.arange(max(count - observed + 1, 0))
    last = first + observed - 1
    first = first[(drive[first] == drive[last]) & (slot[last] - slot[first] == observed - 1)]
    if len(first) == 0:
        ends = np.flatnonzero((np.diff(drive) != 0) | (np.diff(slot) != 1))
        longest = int(np.diff([-1, *ends, count - 1]).max())
        raise InputError(f"windows: expected a drive of {observed} frames in a row or more, found at most {longest}")
    current = first + observed - 1
    # Slots increase within a drive, so the frame of a later slot stands at most as many rows further on.
    predicted = np.full((len(first), future + 1), -1, np.int32)
    for ahead in range(future + 1):
        for row in (np.minimum(current + step, count - 1) for step in range(ahead + 1)):
            found = (drive[row] == drive[current]) & (slot[row] == slot[current] + ahead)
            predicted[found, ahead] = row[found]
    windows = Windows(
        frames=drives,
        observed=first.astype(np.int32)[:, None] + np.arange(observed, dtype=np.int32),
        predicted=predicted,
        drive=drive[first].astype(np.int32),
    )
    return windows if on_host(windows) else jax.device_put(windows)


def on_host(windows: Windows) -> bool:
    """Whether the frames stay in memory-mapped files, to be streamed to the device."""
    return isinstance(windows.frames.power, np.memmap)


def gather(windows: Windows, rows: Rows) -> Batch:
    """Gather the frames, labels and powers of some windows: by NumPy where rows are its arrays, by JAX otherwise.

    Args:
      windows: W windows.
      rows: B of them; any further axes in front stay.

    Returns:
      A batch; labels and powers of padded rows are missing.
    """
    xp = np if isinstance(rows.index, np.ndarray) else jnp
    predicted = windows.predicted[rows.index]
    labelled = (predicted >= 0) & rows.mask[..., None]
    power = xp.where(labelled[..., None], windows.frames.power[predicted], 0)
    return Batch(
        sensors={name: frames[windows.observed[rows.index]] for name, frames in windows.frames.sensors.items()},
        labels=xp.where(labelled, power.argmax(-1), MISSING).astype("int32"),
        power=power,
        mask=rows.mask,
    )


def select(batch: Batch, rows: Rows) -> Batch:
    """Some rows of a batch, as a batch; labels and powers of padded rows are missing."""
    chosen = jax.tree.map(lambda leaf: leaf[rows.index], batch)
    mask = chosen.mask & rows.mask
    return chosen.replace(
        labels=jnp.where(mask[:, None], chosen.labels, MISSING),
        power=jnp.where(mask[:, None, None], chosen.power, 0),
        mask=mask,
    )


def split_drives(
    key: Array,
    windows: Windows,
    order: Literal["random", "inorder"] = "random",
    fractions: tuple[float, float, float] | None = None,
    places: Array | None = None,
) -> Split:
    """Deal the drives out for training, validation and test; all windows of a drive go to the same part.

    Args:
      key: orders the drives where `order` is 'random'.
      windows: W windows.
      order: 'random', or 'inorder' by number of the drive.
      fractions: of the drives, for training, validation and test; the first two are rounded down. As in `FRACTIONS`
        if not given.
      places: where a drive was, by its number; those of each place are dealt out by themselves.

    Returns:
      The rows of each part, unpadded.

    Raises:
      InputError: a part would have no drive, or the order is unknown.
    """
    if order not in FRACTIONS:
        raise InputError(f"split: expected one of {', '.join(FRACTIONS)}, found {order}")
    fractions = fractions or FRACTIONS[order]
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(f"split: expected three fractions that sum to 1, found {fractions}")
    of_window = np.asarray(windows.drive)
    drives = np.unique(of_window)
    if order == "random":
        drives = np.asarray(jax.random.permutation(key, drives))
    place = np.zeros_like(drives) if places is None else np.asarray(places)[drives]
    dealt = [_parts(drives[place == each], fractions) for each in np.unique(place)]
    chosen = (np.flatnonzero(np.isin(of_window, np.concatenate(part))) for part in zip(*dealt, strict=True))
    return jax.device_put(Split(*(Rows(rows.astype(np.int32), np.ones(len(rows), bool)) for rows in chosen)))


def _parts(drives: Array, fractions: tuple[float, float, float]) -> list[Array]:
    """The drives of training, validation and test."""
    train, val, _ = part_sizes(len(drives), fractions)
    parts = np.split(drives, [train, train + val])
    if min(map(len, parts)) == 0:
        raise InputError(f"split: expected drives for training, validation and test, found {len(drives)} drives in all")
    return parts


def part_sizes(drives: int, fractions: tuple[float, float, float]) -> tuple[int, int, int]:
    """How many drives are for training, validation and test; the first two are rounded down."""
    train, val = (int(fraction * drives + 1e-6) for fraction in fractions[:2])  # 0.7 * 90 is just under 63
    return train, val, drives - train - val


def stack_splits(splits: list[Split]) -> Split:
    """Stack the splits of several seeds along a new first axis, padded to the longest of each part."""

    def stack(*parts: Array) -> Array:
        longest = max(map(len, parts))
        return np.stack([np.pad(part, (0, longest - len(part))) for part in parts])

    return jax.device_put(jax.tree.map(stack, *splits))  # NumPy needs no programs, one for each shape
