"""The CSV of a DeepSense folder: finding it, its columns, the order of frames, the files that rows name."""

import csv
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from beamkd.base import InputError

INDEX, DRIVE = "index", "seq_index"
"""Columns that order the frames: number of the slot, which runs on from drive to drive, and number of the drive."""

LARGEST_CSV = 64 * 2**20
"""Bytes. Scenario 8's has about 2 MB; this refuses a file that is not a table before it fills the memory."""

MOST_LINES = 2**18
"""Lines of a CSV, blank ones too. Scenario 8's has 4,044."""

LONGEST_ROW = 2**18
"""Characters of a row with all its lines, counted before it is split into cells. Scenario 8's have about 500."""

MOST_COLUMNS = 1000
"""Columns of a CSV. Scenario 8's has 13."""

LONGEST_CELL = 4096
"""Characters of a cell that is kept. No path of a file has more on Linux."""

DEEPEST = 2
"""How far below the given folder the CSV may be, as in Scenario31/DEV[95%]/scenario31_dev.csv."""

INTEGER = re.compile(r"-?\d{1,9}", re.ASCII)
"""Nine digits always fit in int32, and so do differences of two such numbers."""

CSV = re.compile(r"scenario([1-9]\d{0,8})(_dev)?\.csv", re.ASCII)
"""Names of the tables of scenarios."""

USUAL = 8
"""Scenario that is meant where a folder has several and none is named."""

FROM_UNIT = re.compile(r"/unit\d+/")
"""How a row's path may start with a slash and still mean the scenario's own folder."""


class Cells(Sequence[str]):
    """Texts, kept as bytes one after another: a list of strings takes several times as much memory.

    Those that are not empty are given back with `before` in front of them.
    """

    def __init__(self, before: str = "") -> None:
        self._before, self._bytes, self._ends = before, bytearray(), array("q", [0])

    def append(self, text: str) -> None:
        """Adds a text, which may hold bytes of a path that are no UTF-8."""
        self._bytes += text.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, frame: int) -> str:
        start, end = self._ends[frame], self._ends[frame + 1]
        return self._before + self._bytes[start:end].decode("utf-8", "surrogateescape") if end > start else ""


@dataclass(frozen=True)
class Table:
    """Cells of a scenario's CSV.

    Attributes:
      csv: where the CSV is.
      columns: cells by name of column, F in each.
      lines: line of the CSV that each of the F rows ends on, from 1.
    """

    csv: Path
    columns: dict[str, Sequence[str]]
    lines: Sequence[int]

    def row(self, frame: int) -> str:
        """Name of a frame's row in error messages."""
        cell = self.columns[INDEX][frame]
        index = cell if INTEGER.fullmatch(cell) else shown(cell)
        return f"{self.csv}, line {self.lines[frame]} (index {index})"


def shown(text: str) -> str:
    """What was found, quoted and short, on one line whatever it holds."""
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "…"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for an error message, the first few of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(shown(name) for name in names[:most]) or "nothing") + more


def read_table(
    folder: str | os.PathLike, scenario: int | None, needed: Sequence[str], welcome: Sequence[str] = ()
) -> Table:
    """The CSV of a scenario, checked to have the needed columns and at least one row.

    Args:
      folder: the scenario's folder, or one that holds it.
      scenario: number of the scenario, or None, as `find_csv` takes it.
      needed: names of columns that must be there, `INDEX` among them.
      welcome: names of columns that are kept where they are there.

    Returns:
      The table with the needed columns, and with those of the welcome ones that are there.

    Raises:
      InputError: no such folder, no or several CSVs, not a CSV, too large a one, or a needed column is missing.
    """
    path = find_csv(Path(folder), scenario)
    try:
        if path.stat().st_size > LARGEST_CSV:
            raise InputError(f"{path}: expected a CSV of at most {LARGEST_CSV:,} bytes, found {path.stat().st_size:,}")
        with open(path, encoding="utf-8-sig", newline="") as file:  # some spreadsheets put a byte order mark in front
            try:
                return _table(path, _rows(path, file), needed, welcome)
            except UnicodeDecodeError as error:  # its count starts with the piece of the file that was read last
                byte = file.buffer.tell() - len(error.object) + error.start
                raise InputError(f"{path}: expected a CSV in UTF-8, found byte {byte} that is not") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def find_csv(folder: Path, scenario: int | None = None) -> Path:
    """Path of a scenario's CSV in a folder or below it; the whole is preferred to its `_dev` part.

    Links are followed where they stay inside the folder, which may be a link itself.

    Args:
      folder: at most `DEEPEST` folders above the CSV.
      scenario: number of the scenario; None for the only one at its depth, or for `USUAL` if that is one of several.

    Raises:
      InputError: no such folder, no or several CSVs, or one that is a link out of the folder or lies behind one.
    """
    level, leaving = [folder], []
    try:
        if not folder.is_dir():
            what = "a file" if folder.exists() else "nothing"
            raise InputError(f"{folder}: expected a DeepSense folder, found {what}")
        root = os.path.realpath(folder)
        for depth in range(DEEPEST + 1):
            if depth:
                level, links = _below(level, root)
                leaving += links
            for name in _names(_only(folder, level) if scenario is None else scenario):
                found = [place / name for place in level if (place / name).is_file()]
                if len(found) > 1:
                    raise InputError(f"{folder}: expected one {name}, found {listed([str(path) for path in found])}")
                if found and not inside(os.path.realpath(found[0]), root):
                    link = shown(str(found[0].relative_to(folder)))
                    raise InputError(f"{folder}: expected a CSV inside it, found {link}, a link that leaves it")
                if found:
                    return found[0]
        entries = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be looked through: {error.strerror}: {error.filename!r}") from error
    links = [str(path.relative_to(folder)) for path in leaving]
    refused = f"; not followed, as links that leave the folder: {listed(links)}" if links else ""
    raise InputError(f"{folder}: expected {' or '.join(_names(scenario or 'N'))}, found {listed(entries)}{refused}")


def _names(scenario: int | str | None) -> list[str]:
    """Names that a scenario's CSV may have."""
    return [] if scenario is None else [f"scenario{scenario}.csv", f"scenario{scenario}_dev.csv"]


def _only(folder: Path, level: list[Path]) -> int | None:
    """Number of the only scenario at a level below a folder, or of the usual one; None if there is none."""
    files = [path for place in level for path in place.iterdir() if CSV.fullmatch(path.name) and path.is_file()]
    numbers = sorted(set(map(number_of, files)))
    if len(numbers) > 1 and USUAL not in numbers:
        raise InputError(f"{folder}: scenario: expected a number, found none and several scenarios: {numbers[:8]}")
    return USUAL if USUAL in numbers else next(iter(numbers), None)


def number_of(path: Path) -> int:
    """Number of the scenario that a CSV is the table of."""
    return int(CSV.fullmatch(path.name)[1])


def _below(level: list[Path], root: str) -> tuple[list[Path], list[Path]]:
    """Folders one level further down, each once however many links lead there; and the links that leave the root."""
    resolved: dict[str, Path] = {}
    for place in level:
        for path in sorted(place.iterdir()):
            if path.is_dir():
                resolved.setdefault(os.path.realpath(path), path)
    staying = [path for target, path in resolved.items() if inside(target, root)]
    return staying, [path for target, path in resolved.items() if not inside(target, root)]


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Last line and cells of each row that is not blank, the header first, one at a time."""
    left = LONGEST_ROW

    def lines() -> Iterator[str]:
        nonlocal left
        number = 0
        while line := file.readline(left + 1):
            number += 1
            left -= len(line)
            if number > MOST_LINES:
                raise InputError(f"{path}: expected a CSV of at most {MOST_LINES:,} lines, found more")
            if left < 0:
                raise InputError(
                    f"{path}, line {number}: expected a row of at most {LONGEST_ROW:,} characters, found more"
                )
            if "\0" in line:
                raise InputError(f"{path}, line {number}: expected a CSV, found a zero byte")
            yield line

    reader = csv.reader(lines(), strict=True)
    try:
        for row in reader:
            left = LONGEST_ROW
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: expected a row of a CSV, found: {error}") from error


def _table(path: Path, rows: Iterator[tuple[int, list[str]]], needed: Sequence[str], welcome: Sequence[str]) -> Table:
    """The table of rows, the first of which is the header; a wrong row is refused before the next one is read."""
    _, header = next(rows, (0, None))
    if header is None:
        raise InputError(f"{path}: expected a CSV, found an empty file")
    if len(header) > MOST_COLUMNS:
        raise InputError(f"{path}: expected at most {MOST_COLUMNS:,} columns, found {len(header):,}")
    header = [name.strip() for name in header]
    for name in needed:
        if header.count(name) != 1:
            raise InputError(f"{path}: expected one column {name!r}, found {listed(header, 16)}")
    places = {name: place for place, name in enumerate(header) if name in {*needed, *welcome}}
    columns, ends = {name: Cells() for name in places}, array("q")
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: expected {len(header)} cells as in the header, found {len(row)}")
        for name, place in places.items():
            cell = row[place].strip()
            if len(cell) > LONGEST_CELL:
                expected = f"expected a cell of at most {LONGEST_CELL:,} characters"
                raise InputError(f"{path}, line {line}: {name}: {expected}, found {len(cell):,}")
            columns[name].append(cell)
        ends.append(line)
    if not ends:
        raise InputError(f"{path}: expected a row for each frame, found only the header")
    return Table(path, columns, ends)


def frame_order(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Drive and slot of each frame.

    A slot is a row's `index` less that of its drive's first row: a row that was left out leaves a gap. Time
    stamps are not looked at.

    Args:
      table: with columns `INDEX` and `DRIVE`.

    Returns:
      drive and slot, each [F] int32.

    Raises:
      InputError: a cell is no integer, rows of a drive are not in the order of `index`, or not together.
    """
    index, drive = _integers(table, INDEX), _integers(table, DRIVE)
    slot = np.zeros_like(index)
    seen = {drive[0]}
    start = 0
    for frame in range(1, len(index)):
        if drive[frame] == drive[frame - 1]:
            if index[frame] <= index[frame - 1]:
                raise InputError(
                    f"{table.row(frame)}: expected an index above {index[frame - 1]}, that of the row before "
                    f"in drive {drive[frame]}, found {index[frame]}"
                )
        elif drive[frame] in seen:
            raise InputError(
                f"{table.row(frame)}: expected the rows of a drive together, found drive {drive[frame]} "
                f"again after drive {drive[frame - 1]}"
            )
        else:
            seen.add(drive[frame])
            start = frame
        slot[frame] = index[frame] - index[start]
    return drive, slot


def _integers(table: Table, column: str) -> np.ndarray:
    integers = np.zeros(len(table.columns[column]), np.int32)
    for frame, cell in enumerate(table.columns[column]):
        if not INTEGER.fullmatch(cell):
            raise InputError(f"{table.row(frame)}: {column}: expected an integer, found {shown(cell)}")
        integers[frame] = int(cell)
    return integers


def files(table: Table, column: str) -> Sequence[str]:
    """The files that a column's cells name, links resolved; whether they exist is not looked at.

    Args:
      table: the scenario's CSV.
      column: name of a column of paths, relative to the folder of the CSV.

    Returns:
      F paths, '' where a cell is empty.

    Raises:
      InputError: a path, or a link on it, leaves the folder of the CSV.
    """
    root = os.path.realpath(table.csv.parent)
    paths = Cells(root.rstrip(os.sep) + os.sep)
    for frame, cell in enumerate(table.columns[column]):
        relative = cell[1:] if FROM_UNIT.match(cell) else cell
        path = os.path.realpath(os.path.join(root, relative))
        if not inside(path, root):
            raise InputError(f"{table.row(frame)}: {column}: expected a path inside {root}, found {shown(cell)}")
        paths.append((path[len(root) :].lstrip(os.sep) or ".") if cell else "")
    return paths


def inside(path: str, root: str) -> bool:
    """Whether a resolved path is a folder or lies below it."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
