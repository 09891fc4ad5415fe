"""The files that rows of a DeepSense CSV name: one function a kind of file, from path to checked array.

What they raise says what was expected and found; the caller knows the row and puts its name in front.
"""

import os
import stat

import numpy as np

from beamkd.base import InputError
from beamkd.data.deepsense_table import shown
from beamkd.data.matfile import read_matrix
from beamkd.sim import RAYS

BEAMS = 64
"""Beams of the 60 GHz codebook: lines of a power file."""

LARGEST_TEXT = 64 * 2**10
"""Bytes. 64 numbers take about 1 kB."""

LARGEST_SCAN = 256 * 2**10
"""Bytes, also of what the compressed variables of one inflate to together. A scan takes 3.6 kB."""


def read_power(path: str) -> np.ndarray:
    """Receive power of each beam, [64] float32, linear, from a text of 64 numbers."""
    return _not_negative(_numbers(path, BEAMS, "powers"), "power")


def read_place(path: str) -> np.ndarray:
    """Latitude and longitude, [2] float64, degrees, from a text of two numbers."""
    place = _numbers(path, 2, "numbers (latitude, longitude)")
    for name, degrees, most in zip(("latitude", "longitude"), place, (90, 180), strict=True):
        if not abs(degrees) <= most:  # written so that NaN fails
            raise InputError(f"expected a {name} between -{most} and {most} degrees, found {degrees}")
    return place


def read_scan(path: str) -> np.ndarray:
    """Range of each ray, [216] float32, metres, from column 0 of variable `data` [216, 2] of a .mat."""
    data = read_matrix(_content(path, LARGEST_SCAN), "data", LARGEST_SCAN)
    if data.shape != (len(RAYS), 2) or np.iscomplexobj(data):
        found = f"{'complex' if np.iscomplexobj(data) else 'real'} {list(data.shape)}"
        raise InputError(f"expected variable 'data' real [{len(RAYS)}, 2], found {found}")
    return _not_negative(data[:, 0], "range")


def _numbers(path: str, count: int, what: str) -> np.ndarray:
    words = _content(path, LARGEST_TEXT).split()
    if len(words) != count:
        raise InputError(f"expected {count} {what}, found {len(words)}")
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        text = b" ".join(words).decode("ascii", "replace")
        raise InputError(f"expected {count} {what}, found {shown(text)}") from error


def _not_negative(values: np.ndarray, what: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused below
        values = values.astype(np.float32)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        first = int(bad.argmax())
        raise InputError(f"expected a {what} finite and not negative, found {values[first]} as number {first + 1}")
    return values


def _content(path: str, largest: int) -> bytes:
    """Bytes of a file that must be a plain one, not empty, and not absurdly large."""
    if not path:
        raise InputError("expected a path, found an empty cell")
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
            raise InputError("expected a file, found something else")
        if not 0 < status.st_size <= largest:
            raise InputError(f"expected a file of 1 to {largest:,} bytes, found {status.st_size:,} bytes")
        with open(path, "rb") as file:
            return file.read(largest)
    except FileNotFoundError:
        raise InputError("expected a file, found nothing") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
