"""The files that rows of a DeepSense CSV name: how each kind is read, written and checked, one frame at a time.

What the functions raise says what was expected and found; the caller knows the frame and puts its name in front.
"""

import os
import stat
from pathlib import Path

import numpy as np

from beamkd.base import InputError
from beamkd.data.deepsense.matfile import read_matrix
from beamkd.data.deepsense.table import shown
from beamkd.data.geodesy import to_degrees
from beamkd.sim import RAYS
from beamkd.sim.radar import TESTBED

BEAMS = 64
"""Beams of the 60 GHz codebook: lines of a power file."""

LARGEST_TEXT = 64 * 2**10
"""Bytes. 64 numbers take about 1 kB."""

LARGEST_SCAN = 256 * 2**10
"""Bytes, also of what the compressed variables of one inflate to together. A scan takes 3.6 kB."""

MOST_CHIRPS = 512
"""Chirps of a frame of the radar; Scenarios 8 and 9 have 128."""

LARGEST_BEAT = 9 * 2**20
"""Bytes, as `LARGEST_SCAN`. As many chirps of complex128 take 8.4 MB."""

LOUDEST = 1e30
"""Largest part of a beat signal; the sums of a frame's then stay finite in float32."""

STATION_PLACE = (0.0, 0.0)
"""Degrees latitude and longitude of the base station in folders that we write. At the origin a degree in float64
holds nothing but the car's offset, so that a position of any size is read back to the last bit; elsewhere it resolves
1e-9 m."""

FARTHEST = 1e6
"""Metres. Beyond, latitude and longitude would wrap around the earth."""


def read_power(path: str) -> np.ndarray:
    """Receive power of each beam, [64] float32, linear, from a text of 64 numbers."""
    return check_power(_numbers(path, BEAMS, "powers"))


def check_power(power: np.ndarray) -> np.ndarray:
    """Receive power of each beam as float32, [64], found finite and not negative."""
    return _not_negative(power, BEAMS, "power")


def read_place(path: str) -> np.ndarray:
    """Latitude and longitude, [2] float64, degrees, from a text of two numbers."""
    place = _numbers(path, 2, "numbers (latitude, longitude)")
    for name, degrees, most in zip(("latitude", "longitude"), place, (90, 180), strict=True):
        if not abs(degrees) <= most:  # written so that NaN fails
            raise InputError(f"expected a {name} between -{most} and {most} degrees, found {degrees}")
    return place


def check_place(position: np.ndarray) -> np.ndarray:
    """A position, [2] m, found within `FARTHEST`."""
    if position.shape != (2,) or not (abs(position) <= FARTHEST).all():  # written so that NaN fails
        found = position if position.size < 5 else list(position.shape)
        raise InputError(f"expected a position [2] within {FARTHEST:,.0f} m, found {found}")
    return position


def write_place(path: Path, position: np.ndarray) -> None:
    """A text of latitude and longitude, degrees, of a position [2], metres east and north of `STATION_PLACE`."""
    write_numbers(path, to_degrees(position, STATION_PLACE))


def read_scan(path: str) -> np.ndarray:
    """Range of each ray, [216] float32, metres, from column 0 of variable `data` [216, 2] of a .mat."""
    data = read_matrix(content(path, LARGEST_SCAN), "data", LARGEST_SCAN)
    if data.shape != (len(RAYS), 2) or np.iscomplexobj(data):
        found = f"{'complex' if np.iscomplexobj(data) else 'real'} {list(data.shape)}"
        raise InputError(f"expected variable 'data' real [{len(RAYS)}, 2], found {found}")
    return check_scan(data[:, 0])


def check_scan(ranges: np.ndarray) -> np.ndarray:
    """Range of each ray as float32, [216], found finite and not negative."""
    return _not_negative(ranges, len(RAYS), "range")


def write_scan(path: Path, ranges: np.ndarray) -> None:
    """A .mat with variable `data` [216, 2]: range of each ray, metres, and its bearing, degrees."""
    from scipy.io import savemat  # here, for it takes 0.2 s to import and few runs write folders

    bearing = np.rad2deg(RAYS.astype(np.float64)).round(3)  # rounded to undo float32
    savemat(path, {"data": np.stack([ranges.astype(np.float64), bearing], -1)})


def read_beat(path: str) -> np.ndarray:
    """Beat signals, [4, 256, C] complex64, from variable `data` of a .mat: antennas, samples, chirps."""
    return check_beat(read_matrix(content(path, LARGEST_BEAT), "data", LARGEST_BEAT))


def check_beat(beat: np.ndarray) -> np.ndarray:
    """Beat signals as complex64, [4, 256, C], found finite and not absurdly loud."""
    antennas, samples = TESTBED.antennas, TESTBED.samples
    chirps = beat.shape[2] if beat.ndim == 3 else 0
    if not np.iscomplexobj(beat) or beat.shape[:2] != (antennas, samples) or not 2 <= chirps <= MOST_CHIRPS:
        expected = f"expected a complex [{antennas}, {samples}, 2 to {MOST_CHIRPS}]"
        raise InputError(f"{expected}, found {'complex' if np.iscomplexobj(beat) else 'real'} {list(beat.shape)}")
    loudest = max(abs(beat.real).max(), abs(beat.imag).max())
    if not loudest <= LOUDEST:  # written so that NaN fails
        raise InputError(f"expected beat signals of parts up to {LOUDEST:g}, found {loudest}")
    return beat.astype(np.complex64)


def write_beat(path: Path, beat: np.ndarray) -> None:
    """A .mat with variable `data` complex [4, 256, C]."""
    from scipy.io import savemat  # as above

    savemat(path, {"data": beat})


def write_numbers(path: Path, numbers: np.ndarray) -> None:
    """A text of one number a line, with as many digits as bring back the same float."""
    path.write_text("".join(f"{number!r}\n" for number in numbers.astype(np.float64).tolist()))


def _numbers(path: str, count: int, what: str) -> np.ndarray:
    words = content(path, LARGEST_TEXT).split()
    if len(words) != count:
        raise InputError(f"expected {count} {what}, found {len(words)}")
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        text = b" ".join(words).decode("ascii", "replace")
        raise InputError(f"expected {count} {what}, found {shown(text)}") from error


def _not_negative(values: np.ndarray, count: int, what: str) -> np.ndarray:
    if values.shape != (count,):
        raise InputError(f"expected {count} {what}s, found {list(values.shape)}")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused below
        values = values.astype(np.float32)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        first = int(bad.argmax())
        raise InputError(f"expected a {what} finite and not negative, found {values[first]} as number {first + 1}")
    return values


def content(path: str, largest: int) -> bytes:
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
