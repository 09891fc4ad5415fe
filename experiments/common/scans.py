"""Scans as they come: files that appear in a folder, or rows of numbers on standard input."""

import contextlib
import heapq
import io
import math
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beamkd.base import InputError
from beamkd.data import Frame
from beamkd.data.deepsense.columns import PLACES, SENSORS
from beamkd.data.deepsense.files import content
from beamkd.data.deepsense.table import inside, shown

POLL = 0.02
"""Seconds from one look into a folder to the next."""

SETTLED = 0.2
"""Seconds for which a bad file must not have grown to be called damaged: it may be that it is still being written."""

PATIENCE = 2.0
"""Seconds after which a bad file is called damaged though it grows."""

AT_ONCE = 256
"""Files that are known of ahead of the next one."""

REMEMBERED = 1000
"""Names of the latest files, which tell one that comes late from one that was done."""

MOST_MISSING = 100
"""Numbers in a row that may be missing; where more are left out, numbers do not count scans."""

NUMBER = re.compile(r"(\d+)", re.ASCII)

BYTES_A_NUMBER = 64
"""At most; `numpy.savetxt` writes 25."""

LONGEST_HEADER = 2**14
"""Bytes of a .npy before its numbers."""


class Stopped(Exception):
    """SIGTERM or SIGINT came, and scans are waited for."""


class Stop:
    """Whether SIGTERM or SIGINT came, for a program that ends between two lines, not within one.

    Attributes:
      asked: it did.
    """

    def __init__(self) -> None:
        self.asked, self._waiting = False, False

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_) -> None:
        self.asked = True
        if self._waiting:
            raise Stopped

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """What is within may take for ever, and raises `Stopped` when a signal comes or has come."""
        self._waiting = True
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self._waiting = False


def rows(sensor: str, shape: tuple[int, ...], stop: Stop) -> Iterator[Frame]:
    """Scans of standard input, one a line of numbers with blanks between, as `numpy.savetxt` writes them.

    They are named by number, from 1, the bad ones counted. A last row without an end of line is cut off, so bad.

    Args:
      sensor: what they are of.
      shape: of one.
      stop: ends it, by `Stopped` while a row is waited for.
    """
    most, number = BYTES_A_NUMBER * math.prod(shape), 0
    while True:
        with stop.waiting():
            line = piece = sys.stdin.buffer.readline(most)
            while len(piece) == most and not piece.endswith(b"\n"):
                piece = sys.stdin.buffer.readline(most)
        if not line:
            return
        number += 1
        try:
            yield Frame(str(number), {sensor: _checked(sensor, shape, _numbers(line, shape))})
        except InputError as error:
            yield Frame(str(number), None, fault=str(error))


def _numbers(line: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a row."""
    if not line.endswith(b"\n"):
        raise InputError(f"expected a row of at most {BYTES_A_NUMBER * math.prod(shape):,} bytes, found no end of one")
    words = line.split()
    if len(words) != math.prod(shape):
        raise InputError(f"expected {math.prod(shape)} numbers, found {len(words)}")
    try:
        return np.array([float(word) for word in words]).reshape(shape)
    except ValueError:
        raise InputError(f"expected numbers, found {shown(line.decode('ascii', 'replace'))}") from None


def _checked(sensor: str, shape: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    """A scan found to be what the sensor gives."""
    if values.shape != shape:
        raise InputError(f"expected numbers {list(shape)}, found {list(values.shape)}")
    if sensor in SENSORS:
        return SENSORS[sensor].check(values)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError("expected finite numbers, found NaN or infinity")
    return values


def follow(folder: Path, sensor: str, shape: tuple[int, ...], stop: Stop) -> Iterator[Frame]:
    """Scans of files as they appear in a folder, after those that are there, without end.

    They come in the order of names, numbers in names as numbers: 9 is before 10. A bad file is tried again until it has
    settled, and later ones wait for it. One whose name is before that of a scan done already is late, and bad. Where
    names count one by one, a number left out is missing, and bad; it is not waited for any more.

    What is kept does not grow with the files. They may be removed once they are done, and a short folder is looked
    through soonest. Of a scan late by more than `REMEMBERED` others nothing is said.

    Args:
      folder: where NAME.npy with an array of the shape appear, or files of the sensor as DeepSense has them: for lidar
        NAME.mat. Others and hidden ones are passed over. Writers should rename whole files to their names.
      sensor: what they are of.
      shape: of one.
      stop: ends it, by `Stopped` between two looks.

    Raises:
      InputError: the folder cannot be looked through.
    """
    readers, order = _readers(sensor, shape), _Order()
    known: dict[str, _Size] = {}
    while True:
        began = time.monotonic()
        names = _new_names(folder, tuple(readers), order)
        pause = max(POLL, 3 * (time.monotonic() - began))
        # Files appear while a folder is looked through, and of two the later one alone may be found. So names are taken
        # up to the last one that was known before.
        last = max(known, key=_place, default=None)
        known = {name: _Size.of(folder / name, known.get(name)) for name in names}
        for name in names:
            if last is None or _place(name) > _place(last):
                break
            scan = _read(folder, name, sensor, readers, order)
            if scan.fault and not (order.is_late(name) or known[name].is_final()):
                break
            for missing in order.missing_before(name):
                order.add(missing)
                yield Frame(missing, None, fault=f"expected before {shown(name)}, found nothing")
            order.add(name)
            yield scan
        with stop.waiting():
            time.sleep(pause)


def _place(name: str) -> tuple[list[str | int], str]:
    """Where a name stands in the order of names."""
    return [int(part) if place % 2 else part for place, part in enumerate(NUMBER.split(name))], name


class _Order:
    """Which names were done: the latest `REMEMBERED`, and all up to one."""

    def __init__(self) -> None:
        self._latest: deque[str] = deque()
        self._names: set[str] = set()
        self._long_done: Any = ([],)
        self.last = ""
        self._counts = False

    def add(self, name: str) -> None:
        """A name was done."""
        self.last = max(self.last, name, key=_place)
        self._latest.append(name)
        self._names.add(name)
        if len(self._latest) > REMEMBERED:
            oldest = self._latest.popleft()
            self._names.discard(oldest)
            self._long_done = max(self._long_done, _place(oldest))

    def is_new(self, name: str) -> bool:
        """Whether a name was not done."""
        return name not in self._names and _place(name) > self._long_done

    def is_late(self, name: str) -> bool:
        """Whether a later one was done."""
        return _place(name) < _place(self.last)

    def missing_before(self, name: str) -> list[str]:
        """Names between the last one and this one, where names count."""
        before, now = NUMBER.split(self.last), NUMBER.split(name)
        alike = len(now) > 1 and (before[:-2], before[-1]) == (now[:-2], now[-1])
        between = range(int(before[-2]) + 1, int(now[-2])) if alike else range(0)
        counted = self._counts
        if not self.is_late(name):
            self._counts = alike and (not between or counted and len(between) <= MOST_MISSING)
        if not (counted and self._counts):
            return []
        return ["".join((*now[:-2], f"{number:0{len(before[-2])}d}", now[-1])) for number in between]


class _Size(NamedTuple):
    """How large a file is, since when, and when it was found, s."""

    size: int
    since: float
    found: float

    @staticmethod
    def of(path: Path, before: "_Size | None") -> "_Size":
        """Of a file now, and what it was before."""
        now = time.monotonic()
        try:
            size = os.stat(path).st_size
        except OSError:  # it may have been removed
            size = -1
        if before is None:
            return _Size(size, now, now)
        return before if size == before.size else _Size(size, now, before.found)

    def is_final(self) -> bool:
        """Whether nobody writes the file any more, or has for too long."""
        now = time.monotonic()
        return now - self.since >= SETTLED or now - self.found >= PATIENCE


_Readers = Mapping[str, Callable[[str], np.ndarray]]
"""From paths of files to scans, by how the names of files end."""


def _readers(sensor: str, shape: tuple[int, ...]) -> _Readers:
    readers = {".npy": lambda path: _checked(sensor, shape, _array(path, shape))}
    if sensor in SENSORS and sensor not in PLACES:
        readers[Path(SENSORS[sensor].path).suffix] = SENSORS[sensor].read
    return readers


def _new_names(folder: Path, endings: tuple[str, ...], order: _Order) -> list[str]:
    """The first names that were not done, in order."""
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries)
            scans = (name for name in names if name.endswith(endings) and not name.startswith("."))
            return heapq.nsmallest(AT_ONCE, filter(order.is_new, scans), key=_place)
    except OSError as error:
        raise InputError(f"{folder}: expected a folder of scans, found: {error.strerror}") from None


def _read(folder: Path, name: str, sensor: str, readers: _Readers, order: _Order) -> Frame:
    """The scan of a file."""
    try:
        if order.is_late(name):
            raise InputError(f"expected before {shown(order.last)}, found late")
        path = os.path.realpath(folder / name)
        if not inside(path, os.path.realpath(folder)):
            raise InputError("expected a file in the folder, found a link that leaves it")
        return Frame(name, {sensor: readers[Path(name).suffix](path)})
    except InputError as error:
        return Frame(name, None, fault=str(error))


def _array(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Of a .npy, the header of which is looked at first: it may claim any size."""
    contents = content(path, BYTES_A_NUMBER * math.prod(shape) + LONGEST_HEADER)
    file = io.BytesIO(contents)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        found, _, kind = read(file)
        if found != shape or kind.kind not in "fiu":
            raise InputError(f"expected numbers {list(shape)}, found {kind.name} {str(list(found)):.80}")
        return np.load(io.BytesIO(contents), allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # NumPy raises errors of many kinds
        raise InputError(f"expected a .npy of numbers, found {' '.join(str(error).split())[:200]}") from None
