"""Sensors that no file holds: what is computed from the frames of another one, a few at a time.

Each function takes frames [N, ...] in the order of time, and follows [N] bool: whether the frame before is there, of
the same drive and one slot earlier.
"""

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array
from beamkd.data.masks import bits_of_masks
from beamkd.sim import doppler_angle_map, range_angle_map

SHAPES = 8
"""Frames are filled up to a multiple of so many: a program is compiled for each number of frames."""

AT_ONCE = 4
"""Beat signals that are transformed at a time: by angle, range and chirp they take 17 MB each."""


def range_angle_maps(beat: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """[N, 256, 64] float32 of beat signals [N, 4, 256, C] complex64."""
    return np.asarray(_range_angle(filled(beat)))[: len(beat)]


def doppler_angle_maps(beat: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """[N, C, 64] float32 of beat signals [N, 4, 256, C] complex64."""
    return np.asarray(_doppler_angle(filled(beat)))[: len(beat)]


def packed_masks(gray: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """Motion masks [N, H, H / 8] uint8 of gray frames [N, H, H] uint8, as `numpy.packbits` has the bits.

    Of a frame and the one before; all zero where none is.
    """
    moved = np.asarray(bits_of_masks(filled(gray), gray.shape[1]))[: len(gray) - 1]
    return np.where(follows[:, None, None], np.pad(moved, ((1, 0), (0, 0), (0, 0))), 0)


@jax.jit
def _range_angle(beat: Array) -> Array:
    return jax.lax.map(range_angle_map, beat, batch_size=AT_ONCE)


@jax.jit
def _doppler_angle(beat: Array) -> Array:
    return jax.lax.map(doppler_angle_map, beat, batch_size=AT_ONCE)


def filled(frames: np.ndarray) -> Array:
    """Frames with the last one repeated up to a multiple of `SHAPES`."""
    more = -len(frames) % SHAPES
    return jnp.asarray(np.concatenate([frames, np.repeat(frames[-1:], more, axis=0)]))
