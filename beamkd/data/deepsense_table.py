"""The CSV of a DeepSense folder: finding it, its columns, the order of frames, the files that rows name."""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beamkd.base import InputError

POWER, BEAM = "unit1_pwr_60ghz", "unit1_beam_index"
STATION, CAR = "unit1_loc", "unit2_loc_cal"
"""Columns that every reading looks for: powers and the best beam; where the base station and the car are."""

LARGEST_CSV = 64 * 2**20
"""Bytes. Scenario 8's has about 2 MB; this refuses a file that is not a table before it fills the memory."""

DEEPEST = 2
"""How far below the given folder the CSV may be, as in Scenario31/DEV[95%]/scenario31_dev.csv."""

INTEGER = re.compile(r"-?\d{1,9}", re.ASCII)
"""Nine digits always fit in int32, and so do differences of two such numbers."""

FROM_UNIT = re.compile(r"/unit\d+/")
"""How a row's path may start with a slash and still mean the scenario's own folder."""


@dataclass(frozen=True)
class Table:
    """Cells of a scenario's CSV.

    Attributes:
      csv: where the CSV is.
      columns: cells by name of column, each a list of F strings.
      lines: line of the CSV that each of the F rows ends on, from 1.
    """

    csv: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def row(self, frame: int) -> str:
        """Name of a frame's row in error messages."""
        cell = self.columns["index"][frame]
        index = cell if INTEGER.fullmatch(cell) else shown(cell)
        return f"{self.csv}, line {self.lines[frame]} (index {index})"


def shown(text: str) -> str:
    """What was found, quoted and short, on one line whatever it holds."""
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "…"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for an error message, the first few of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(shown(name) for name in names[:most]) or "nothing") + more


def read_table(folder: str | os.PathLike, scenario: int, needed: Sequence[str]) -> Table:
    """The CSV of a scenario, checked to have the needed columns and at least one row.

    Args:
      folder: the scenario's folder, or one that holds it.
      scenario: number of the scenario.
      needed: names of columns that must be there.

    Returns:
      The table; columns without a name are left out.

    Raises:
      InputError: no such folder, no or several CSVs, not a CSV, or a needed column is missing.
    """
    path = find_csv(Path(folder), scenario)
    lines, rows = _cells(path)
    header = [name.strip() for name in rows[0]]
    for name in needed:
        if header.count(name) != 1:
            raise InputError(f"{path}: expected one column {name!r}, found {listed(header, 16)}")
    for line, row in zip(lines[1:], rows[1:], strict=True):
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: expected {len(header)} cells as in the header, found {len(row)}")
    if not rows[1:]:
        raise InputError(f"{path}: expected a row for each frame, found only the header")
    columns = {name: [cell.strip() for cell in cells] for name, *cells in zip(header, *rows[1:], strict=True) if name}
    return Table(path, columns, lines[1:])


def find_csv(folder: Path, scenario: int) -> Path:
    """Path of a scenario's CSV in a folder or below it; the whole is preferred to its `_dev` part."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a DeepSense folder, found {'a file' if folder.exists() else 'nothing'}")
    names = [f"scenario{scenario}.csv", f"scenario{scenario}_dev.csv"]
    level = [folder]
    try:
        for _ in range(DEEPEST + 1):
            for name in names:
                found = [place / name for place in level if (place / name).is_file()]
                if len(found) > 1:
                    raise InputError(f"{folder}: expected one {name}, found {listed([str(path) for path in found])}")
                if found:
                    return found[0]
            level = [below for place in level for below in sorted(place.iterdir()) if below.is_dir()]
        entries = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be looked through: {error.strerror}") from error
    raise InputError(f"{folder}: expected {' or '.join(names)}, found {listed(entries)}")


def _cells(path: Path) -> tuple[list[int], list[list[str]]]:
    """Lines and cells of every row that is not blank, the header first."""
    if not inside(os.path.realpath(path), os.path.realpath(path.parent)):
        raise InputError(f"{path}: expected a file of this folder, found a link that leaves it")
    try:
        if path.stat().st_size > LARGEST_CSV:
            raise InputError(f"{path}: expected a CSV of at most {LARGEST_CSV:,} bytes, found {path.stat().st_size:,}")
        text = path.read_text("utf-8-sig")  # some spreadsheets put a byte order mark in front
        if "\0" in text:
            raise InputError(f"{path}: expected a CSV, found a zero byte")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        numbered = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a CSV in UTF-8, found byte {error.start} that is not") from error
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: expected a row of a CSV, found: {error}") from error
    if not numbered:
        raise InputError(f"{path}: expected a CSV, found an empty file")
    lines, rows = zip(*numbered, strict=True)
    return list(lines), list(rows)


def frame_order(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Drive and slot of each frame.

    A slot is a row's `index` less that of its drive's first row: a row that was left out leaves a gap. Time
    stamps are not looked at.

    Args:
      table: with columns `index` and `seq_index`.

    Returns:
      drive and slot, each [F] int32.

    Raises:
      InputError: a cell is no integer, rows of a drive are not in the order of `index`, or not together.
    """
    index, drive = _integers(table, "index"), _integers(table, "seq_index")
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
    for frame, cell in enumerate(table.columns[column]):
        if not INTEGER.fullmatch(cell):
            raise InputError(f"{table.row(frame)}: {column}: expected an integer, found {shown(cell)}")
    return np.array(table.columns[column]).astype(np.int32)


def files(table: Table, column: str) -> list[str]:
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
    paths = []
    for frame, cell in enumerate(table.columns[column]):
        relative = cell[1:] if FROM_UNIT.match(cell) else cell
        path = os.path.realpath(os.path.join(root, relative))
        if not inside(path, root):
            raise InputError(f"{table.row(frame)}: {column}: expected a path inside {root}, found {shown(cell)}")
        paths.append(path if cell else "")
    return paths


def inside(path: str, root: str) -> bool:
    """Whether a resolved path is a folder or lies below it."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
