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

NUMBERS = "biufc"
"""NumPy's kinds of types that are read back as they were written: Python's objects and bfloat16 are not."""

Kind = tuple[np.dtype, tuple[int, ...]]
"""Type of an array, and its shape without the frames."""


def store_drives(folder: Path, pieces: Iterable[Drives]) -> Drives:
    """Write drives into a folder, which is there complete or not at all.

    Args:
      folder: a new one; an earlier one of that name is replaced, once all pieces are written.
      pieces: drives, a few at a time, one frame or more, all with the sensors, types and shapes of the first piece.

    Returns:
      All of them, memory-mapped.

    Raises:
      InputError: a piece is unlike the first, or has arrays of unequal length; there is no frame; the folder cannot
        be written, or an earlier one not removed.
    """
    writing = folder.with_name(folder.name + ".writing")
    try:
        _remove(writing)
        writing.mkdir(parents=True)
        try:
            _write(writing, pieces)
            _remove(folder)
            os.replace(writing, folder)
        except BaseException:
            _remove(writing)
            raise
    except OSError as error:
        raise InputError(f"{folder}: expected to write drives there, found: {error}") from error
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


def _remove(folder: Path) -> None:
    if os.path.lexists(folder):
        shutil.rmtree(folder)


def _write(folder: Path, pieces: Iterable[Drives]) -> None:
    """A file for each array of the first piece, with all pieces one after another."""
    first: dict[str, Kind] = {}
    frames = 0
    with contextlib.ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for number, piece in enumerate(pieces, 1):
            arrays = _arrays(piece)
            first = first or {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
            _check(f"piece {number}", arrays, first)
            for name, array in arrays.items():
                if name not in files:
                    files[name] = stack.enter_context(open(folder / f"{name}.npy", "wb"))
                    _write_header(files[name], first[name], 0)
                files[name].write(np.ascontiguousarray(array))
            frames += len(arrays["slot"])
        for name, file in files.items():
            file.seek(0)
            _write_header(file, first[name], frames)
    if not frames:
        raise InputError("pieces: expected drives with a frame or more, found none")


def _check(piece: str, arrays: dict[str, np.ndarray], first: dict[str, Kind]) -> None:
    """Whether a piece is like the first one, with as many frames in each array as in 'slot'."""
    if arrays.keys() != first.keys():
        raise InputError(f"{piece}: expected {sorted(first)} as in the first piece, found {sorted(arrays)}")
    frames = arrays["slot"].size
    for name, array in arrays.items():
        kind, shape = first[name]
        if array.dtype != kind or array.shape[1:] != shape:
            expected = f"{kind} {['frames', *shape]} as in the first piece"
            raise InputError(f"{piece}, {name}: expected {expected}, found {array.dtype} {list(array.shape)}")
        if array.shape[:1] != (frames,):
            raise InputError(f"{piece}, {name}: expected {frames} frames as in slot, found {list(array.shape)}")
        if kind.kind not in NUMBERS:
            raise InputError(f"{piece}, {name}: expected numbers that .npy files can hold, found {kind}")


def _arrays(drives: Drives) -> dict[str, np.ndarray]:
    """All arrays of `drives` by the name of their file."""
    sensors = {PREFIX + name: array for name, array in drives.sensors.items()}
    arrays = {**sensors, **{name: getattr(drives, name) for name in FIELDS}}
    return {name: np.asanyarray(array) for name, array in arrays.items()}


def _write_header(file: BinaryIO, kind: Kind, frames: int) -> None:
    """The header of so many frames of a kind; its length is the same for any number (NumPy leaves room)."""
    dtype, shape = np.lib.format.dtype_to_descr(kind[0]), (frames, *kind[1])
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


def _open(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected an array as it was stored, found {error}") from error
