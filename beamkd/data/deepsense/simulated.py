"""Sensors in place of a folder's own: simulated along the positions that it holds, a drive at a time."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from beamkd.data.deepsense.derived import filled
from beamkd.sim.track import cast_track, sense_track

RAYCAST = "raycast"
"""Stands for scans without noise among the names of simulated sensors."""


def sense_drive(names: Sequence[str], numbers: Sequence[int], position: np.ndarray) -> dict[str, np.ndarray]:
    """What sensors see in the frames of one drive; the same for the same track, whatever else is in the folder.

    Args:
      names: those of `sense_track`, or `RAYCAST`.
      numbers: of scenario, drive and part of the drive: noise is drawn by these.
      position: [N, 2] float32, m.

    Returns:
      By name, [N, ...]; `RAYCAST`'s scans as 'lidar'.
    """
    count = len(position)
    position = filled(position)  # as further frames, of another drive
    seen = {"lidar": cast_track(position)} if RAYCAST in names else {}
    noisy = [name for name in names if name != RAYCAST]
    if noisy:
        key = functools.reduce(jax.random.fold_in, [number % 2**31 for number in numbers], jax.random.key(0))
        seen |= sense_track(key, position, np.arange(len(position), dtype=np.int32) // count, noisy)
    return {name: np.asarray(frames)[:count] for name, frames in seen.items()}
