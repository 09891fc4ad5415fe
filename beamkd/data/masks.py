"""Motion masks of drives that have gray frames."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, Drives, InputError
from beamkd.sim import motion_masks

SOURCE = {"masks": "camera"}
"""By what networks see: the sensor whose frames it is made of. Others are seen as they are."""

PIECE = 256
"""Frames at a time; a program is compiled for so many."""


def with_masks(drives: Drives, size: int) -> Drives:
    """Motion masks in place of gray frames.

    The mask of a frame is of it and the one a slot before in the same drive; nothing has moved where there is none.

    Args:
      drives: with the sensor 'camera', [F, H, W] uint8.
      size: rows and columns of the masks, a multiple of 8; frames are shrunk to it first.

    Returns:
      The drives with 'masks' [F, size, size / 8] uint8, bits as of `numpy.packbits`.

    Raises:
      InputError: size is no multiple of 8, or more than the frames have.
    """
    sensors = dict(drives.sensors)
    gray = sensors.pop("camera")
    most = min(gray.shape[1:])
    if size < 8 or size % 8 or size > most:
        raise InputError(f"mask size: expected a multiple of 8 up to {most}, found {size}")
    drive, slot = np.asarray(drives.drive), np.asarray(drives.slot)
    follows = np.append(False, (drive[1:] == drive[:-1]) & (slot[1:] == slot[:-1] + 1))
    masks = np.empty((len(gray), size, size // 8), np.uint8)
    for first in range(0, len(gray), PIECE):
        rows = np.clip(np.arange(first - 1, first + PIECE), 0, len(gray) - 1)  # and the frame before
        some = slice(first, first + PIECE)
        moved = np.asarray(bits_of_masks(gray[rows], size))[: len(gray) - first]
        masks[some] = np.where(follows[some, None, None], moved, 0)
    return drives.replace(sensors=sensors | {"masks": masks if isinstance(gray, np.ndarray) else jnp.asarray(masks)})


@functools.partial(jax.jit, static_argnames="size")
def bits_of_masks(gray: Array, size: int) -> Array:
    """Motion masks of gray frames [N, H, W], shrunk to `size` x `size` first: bits [N - 1, size, size / 8] uint8."""
    shape = (len(gray), size, size)
    if gray.shape != shape:
        gray = jnp.round(jax.image.resize(gray.astype(jnp.float32), shape, "linear"))
    return jnp.packbits(motion_masks(gray), axis=-1)
