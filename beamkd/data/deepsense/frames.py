"""Frames of a DeepSense folder one after another, of sensors alone: neither powers nor labels need to be there."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from beamkd.base import InputError
from beamkd.data.deepsense.columns import COLUMNS, DERIVED, PLACES, SENSORS
from beamkd.data.deepsense.reader import Recording, read_file
from beamkd.data.deepsense.table import DRIVE, INDEX, Table, files, frame_order, read_table
from beamkd.data.geodesy import to_metres
from beamkd.data.masks import bits_of_masks


class Frame(NamedTuple):
    """What was sensed in a slot.

    Attributes:
      name: in a folder, its row's `index`.
      sensors: in the units of `Drives`, by name, [...]; masks as 0 and 1. None where the frame is bad.
      follows: whether the last good frame is of the same drive and one slot earlier. A stream starts again where not.
      fault: what is wrong with a bad one: a line.
    """

    name: str
    sensors: Mapping[str, np.ndarray] | None
    follows: bool = True
    fault: str = ""


def read_frames(
    folder: str | os.PathLike, shapes: Mapping[str, tuple[int, ...]], scenario: int | None = None
) -> Iterator[Frame]:
    """Frames of a scenario in the order of rows; only the columns of the sensors have to be there.

    Drives and slots are those of `read_deepsense`. Without column `index` each row is the slot after the row before,
    without `seq_index` all rows are one drive.

    Args:
      folder: as of `read_deepsense`.
      shapes: of a frame of each sensor, by name; masks are made of this size.
      scenario: as of `read_deepsense`.

    Returns:
      The frames, read as they are asked for. One with missing or bad files has no sensors but a `fault`.

    Raises:
      InputError: at once, where the table is bad, a path leaves the folder, or no file can hold frames of these shapes.
    """
    check_shapes(shapes)
    sources = dict.fromkeys(DERIVED[name].source if name in DERIVED else name for name in shapes)
    read = [*sources, *(["station"] if {*PLACES} & {*sources} else [])]
    table = _with_order(read_table(folder, scenario, [COLUMNS[name].name for name in read], [INDEX, DRIVE]))
    paths = {name: files(table, COLUMNS[name].name) for name in read}
    return _frames(Recording(table, paths, *frame_order(table)), shapes)


def check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `InputError` where there is no such sensor, or DeepSense's has frames of another shape."""
    for name, shape in shapes.items():
        if name not in {*SENSORS, *DERIVED}:
            raise InputError(f"sensors: expected names out of {sorted({*SENSORS, *DERIVED})}, found {name!r}")
        if name in SENSORS:
            try:
                SENSORS[name].check(np.zeros(shape))
            except InputError as error:
                raise InputError(f"sensors: {name}: {error}") from None


def _with_order(table: Table) -> Table:
    """A table with the columns that order frames, those of one drive without a gap where it has none."""
    count = len(table.lines)
    usual = {INDEX: [str(row + 1) for row in range(count)], DRIVE: ["1"] * count}
    return dataclasses.replace(table, columns=usual | table.columns)


def _frames(recording: Recording, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Frame]:
    """The frames of a folder, in the order of rows."""
    slots = list(zip(recording.drive.tolist(), recording.slot.tolist(), strict=True))
    last, before = None, None
    for row, (drive, slot) in enumerate(slots):
        index, follows = recording.table.columns[INDEX][row], last == (drive, slot - 1)
        try:
            seen = {name: read_file(recording, name, row) for name in recording.paths}
        except InputError as error:
            yield Frame(index, None, follows, str(error))
            continue
        before = before if follows else None
        yield Frame(index, {name: _sensed(name, shape, seen, before) for name, shape in shapes.items()}, follows)
        last, before = (drive, slot), seen


def _sensed(
    name: str, shape: tuple[int, ...], seen: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray] | None
) -> np.ndarray:
    """A sensor's frame of what the files hold, and those of the slot before if there is one."""
    if name in PLACES:
        return to_metres(seen[name], seen["station"]).astype(np.float32)
    if name not in DERIVED:
        return seen[name]
    source = DERIVED[name].source
    if name != "masks":
        return DERIVED[name].derive(seen[source][None], np.zeros(1, bool))[0]
    if before is None:
        return np.zeros(shape, np.uint8)
    return np.unpackbits(np.asarray(bits_of_masks(np.stack([before[source], seen[source]]), shape[0]))[0], axis=-1)
