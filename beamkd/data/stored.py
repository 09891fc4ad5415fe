"""Drives kept in a folder as .npy files, written piece by piece and read as memory maps: they need not fit memory."""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from beamkd.base import Drives, InputError

FIELDS = ("power", "position", "drive", "slot")
"""Fields of `Drives` that are one array; sensors are sensor_NAME.npy."""

PREFIX = "sensor_"


def store_drives(folder: Path, pieces: Iterable[Drives]) -> Drives:
    """Write drives into a folder, which is there complete or not at all.

    Args:
      folder: a new one; an earlier one of that name is replaced.
      pieces: drives, a few at a time, one piece or more.

    Returns:
      All of them, memory-mapped.
    """
    writing = folder.with_name(folder.name + ".writing")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    frames = 0
    with contextlib.ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for piece in pieces:
            arrays = _arrays(piece)
            for name, array in arrays.items():
                if name not in files:
                    files[name] = stack.enter_context(open(writing / f"{name}.npy", "wb"))
                    _write_header(files[name], array, 0)
                files[name].write(np.ascontiguousarray(array))
            frames += len(piece.slot)
        for name, file in files.items():
            file.seek(0)
            _write_header(file, arrays[name], frames)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(writing, folder)
    return open_drives(folder)


def open_drives(folder: Path) -> Drives:
    """Memory-map the drives that `store_drives` wrote.

    Raises:
      InputError: a file is missing, damaged, or has another number of frames than the rest.
    """
    sensors = {path.stem.removeprefix(PREFIX): _open(path) for path in sorted(folder.glob(f"{PREFIX}*.npy"))}
    drives = Drives(sensors, **{name: _open(folder / f"{name}.npy") for name in FIELDS})
    frames = len(drives.slot)
    for name, array in _arrays(drives).items():
        if len(array) != frames:
            raise InputError(f"{folder / name}.npy: expected {frames} frames, as in slot.npy, found {len(array)}")
    return drives


def _arrays(drives: Drives) -> dict[str, np.ndarray]:
    """All arrays of `drives` by the name of their file."""
    sensors = {PREFIX + name: array for name, array in drives.sensors.items()}
    arrays = {**sensors, **{name: getattr(drives, name) for name in FIELDS}}
    return {name: np.asanyarray(array) for name, array in arrays.items()}


def _write_header(file: BinaryIO, array: np.ndarray, frames: int) -> None:
    """The header of so many frames like those of `array`; its length is the same for any number (NumPy leaves room)."""
    shape, kind = (frames, *array.shape[1:]), np.lib.format.dtype_to_descr(array.dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})


def _open(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected an array as it was stored, found {error}") from error
