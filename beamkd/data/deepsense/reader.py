"""DeepSense 6G scenario folders as drives."""

import functools
import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track

from beamkd.base import Drives, InputError
from beamkd.data.deepsense.columns import BEAM, COLUMNS, COSTLY, DERIVED, PLACES, QUANTITIES, SENSORS
from beamkd.data.deepsense.decoded import digest, keep_decoded
from beamkd.data.deepsense.simulated import RAYCAST, sense_drive
from beamkd.data.deepsense.table import DRIVE, INDEX, Table, files, find_csv, frame_order, number_of, read_table, shown
from beamkd.data.geodesy import to_metres
from beamkd.sim.track import TRACKED

TOLD = 3
"""Bad frames whose faults are told where they are dropped."""

PIECE = 128
"""Frames of a drive that are in memory at once while they are decoded: the radar's take 1 MB each. A longer drive is
taken in parts, and sensors simulated in each by itself; those of Scenarios 8 and 9 are shorter."""

RESIDENT_BYTES = 2**30
"""Of frames kept on disk: as many are put on the device. Radar maps and masks of Scenario 9 take 0.4 GB."""

log = logging.getLogger(__name__)

Folder = str | os.PathLike


@dataclass(frozen=True)
class Wanted:
    """What is asked for of folders.

    Attributes:
      sensors: names of the sensors.
      read: the sensors among `SENSORS` whose files are read.
      simulated: the sensors that are simulated, as `sense_drive` takes them.
      broadside: degrees from east.
      skip_bad: whether bad frames are dropped.
    """

    sensors: tuple[str, ...]
    read: tuple[str, ...]
    simulated: tuple[str, ...]
    broadside: float
    skip_bad: bool

    @property
    def places(self) -> tuple[str, ...]:
        """Places without which a frame is bad."""
        if self.simulated:
            return ("station", "car")
        return ("station",) if "gps" in self.read else ()


@dataclass(frozen=True)
class Recording:
    """A scenario's folder.

    Attributes:
      table: its CSV.
      paths: files of the F rows, by our names for the columns.
      drive: [F] int32.
      slot: [F] int32.
    """

    table: Table
    paths: dict[str, Sequence[str]]
    drive: np.ndarray
    slot: np.ndarray

    @property
    def scenario(self) -> int:
        """Number of the scenario."""
        return number_of(self.table.csv)


def read_deepsense(
    folder: Folder | Sequence[Folder],
    scenario: int | None = None,
    *,
    lidar: str = "measured",
    sensors: Sequence[str] = ("lidar",),
    simulated: Sequence[str] = (),
    broadside: float = 0.0,
    skip_bad: bool = False,
    progress: bool = False,
) -> Drives:
    """Reads scenarios of the DeepSense 6G dataset; only the files of the sensors asked for need to be there.

    Frames keep the order of rows. A slot is a row's `index` less that of its drive's first row. A bad table,
    or a path that leaves the folder, is always an error; a frame with bad files is one unless `skip_bad`.

    Sensors by name: 'lidar', ranges [216] m; 'beat', the radar's beat signals [4, 256, C] complex64; 'radar' and
    'doppler', its range-angle [256, 64] and Doppler-angle [C, 64] maps; 'camera', gray frames [224, 224] uint8;
    'masks', motion masks [224, 28] uint8 with their bits packed, of a frame and the one a slot before, zero where
    there is none; 'gps', the car's position before its calibration, [2] m.

    What takes long (`COSTLY`) is kept on disk, under `$XDG_CACHE_HOME/beamkd/decoded`, and taken from there as long as
    the folder and this code are the same. More of it than `RESIDENT_BYTES` stays there, memory-mapped.

    Args:
      folder: with `scenarioN.csv` or `scenarioN_dev.csv`, or at most two folders above it; or several such folders,
        whose drives are put one after another and numbered anew, from 1.
      scenario: number of the scenario; None for the only one that a folder has, or 8 if that is one of several.
      lidar: 'measured' for the folder's own scans, or 'raycast' for scans simulated along its positions, without noise.
      sensors: names of the sensors to read.
      simulated: sensors that are simulated along the positions instead, with noise, out of those of `sense_track`;
        what is derived from one of them is, too. Others than those of `sensors` change nothing.
      broadside: where the base station's array faces, degrees from east, counter-clockwise seen from above;
        0, east, is Scenario 8's.
      skip_bad: whether to drop frames whose files are missing or bad, which leaves gaps in the slots. How
        many were dropped is logged as a warning.
      progress: whether to show a bar, or plain lines where there is no terminal.

    Returns:
      The drives. Positions are NaN where the folder has none and no sensor needs them.

    Raises:
      InputError: one line that names the file and row, what was expected and what was found.
    """
    folders = [folder] if isinstance(folder, Folder) else list(folder)
    _check_arguments(folders, scenario, lidar, sensors, simulated, broadside)
    wanted = _wanted(lidar, sensors, simulated, broadside, skip_bad)
    recordings = [_open(place, scenario, wanted) for place in folders]
    pieces = functools.partial(_pieces, recordings, wanted, progress)
    if set(COSTLY) & set(wanted.sensors):
        drives, told = keep_decoded(_key(recordings, wanted), wanted.sensors, pieces)
    else:
        told: list[str] = []
        drives = jax.tree.map(lambda *parts: np.concatenate(parts), *pieces(told))
    for line in told:
        log.warning(line)
    mapped = isinstance(drives.power, np.memmap)
    if mapped and sum(array.nbytes for array in jax.tree.leaves(drives)) > RESIDENT_BYTES:
        return drives
    return jax.tree.map(jnp.array if mapped else jnp.asarray, drives)  # the first copies: no mapped file stays in use


def scenario_number(folder: Folder, scenario: int | None = None) -> int:
    """Number of the scenario that `read_deepsense` finds.

    Raises:
      InputError: there is no such scenario.
    """
    return number_of(find_csv(Path(folder), scenario))


def count_drives(folder: Folder, scenario: int | None = None) -> int:
    """How many drives `read_deepsense` finds in a folder, whether or not their files are good.

    Raises:
      InputError: there is no such scenario, or its table is bad.
    """
    drive, _ = frame_order(read_table(folder, scenario, [INDEX, DRIVE], []))
    return len(np.unique(drive))


def _check_arguments(folders, scenario, lidar, sensors, simulated, broadside) -> None:
    if not folders:
        raise InputError("folder: expected a folder or more, found none")
    if scenario is not None and (not isinstance(scenario, int) or scenario < 1):
        raise InputError(f"scenario: expected a positive integer, found {scenario!r}")
    if lidar not in ("measured", RAYCAST):
        raise InputError(f"lidar: expected 'measured' or {RAYCAST!r}, found {lidar!r}")
    for argument, found, names in (("sensors", sensors, {*SENSORS, *DERIVED}), ("simulated", simulated, set(TRACKED))):
        if isinstance(found, str) or not set(found) <= names:
            raise InputError(f"{argument}: expected names out of {sorted(names)}, found {found!r}")
    if lidar == RAYCAST and "lidar" in simulated:
        raise InputError(f"simulated: expected no 'lidar' where lidar is {RAYCAST!r}, found {simulated!r}")
    if not math.isfinite(broadside):
        raise InputError(f"broadside: expected degrees, found {broadside!r}")


def _wanted(lidar, sensors, simulated, broadside, skip_bad) -> Wanted:
    """The sensors asked for by how they are come by."""
    read, along = set(), set()
    for name in sensors:
        source = DERIVED[name].source if name in DERIVED else name
        if name == "lidar" and lidar == RAYCAST:
            along.add(RAYCAST)
        elif {name, source} & set(simulated):
            along.add(name if name in simulated else source)
        else:
            read.add(source)
    return Wanted(
        sensors=tuple(name for name in (*SENSORS, *DERIVED) if name in sensors),
        read=tuple(name for name in SENSORS if name in read),
        simulated=tuple(sorted(along)),
        broadside=broadside,
        skip_bad=skip_bad,
    )


def _open(folder: Folder, scenario: int | None, wanted: Wanted) -> Recording:
    columns = {name: COLUMNS[name].name for name in (*QUANTITIES, *wanted.read)}
    needed = [INDEX, DRIVE, *map(columns.get, ("power", *wanted.read, *wanted.places))]
    table = read_table(folder, scenario, needed, [BEAM, *columns.values()])
    paths = {name: files(table, column) for name, column in columns.items() if column in table.columns}
    return Recording(table, paths, *frame_order(table))


def _key(recordings: Sequence[Recording], wanted: Wanted) -> str:
    """What drives are kept by: all that made them."""
    contents = [recording.table.csv for recording in recordings]
    named = [recording.paths[name] for recording in recordings for name in sorted(recording.paths)]
    return digest((wanted, [recording.scenario for recording in recordings]), contents, named)


def _pieces(recordings: Sequence[Recording], wanted: Wanted, progress: bool, told: list[str]) -> Iterator[Drives]:
    """All good frames, as NumPy arrays, a drive or a part of one at a time; what is to be told of bad ones is added."""
    shapes: dict[str, tuple[int, ...]] = {}
    before = 0
    for recording in recordings:
        numbers = np.unique(recording.drive)
        for piece in _read(recording, wanted, shapes, progress, told):
            own = before + 1 + np.searchsorted(numbers, piece.drive).astype(np.int32)
            yield piece if len(recordings) == 1 else piece.replace(drive=own)
        before += len(numbers)


def _read(
    recording: Recording, wanted: Wanted, shapes: dict[str, tuple[int, ...]], progress: bool, told: list[str]
) -> Iterator[Drives]:
    """The good frames of one folder; `shapes` are of each file's array, as the first frame of all folders has them."""
    kept, faults, last = 0, [], None
    count = len(recording.table.lines)
    rows = _shown_progress(range(count), recording.table, progress)
    for _, some in itertools.groupby(rows, _parts(recording.drive).__getitem__):
        frames = {}
        for row in some:
            try:
                frames[row] = _read_frame(recording, wanted, shapes, row)
            except InputError as error:
                if not wanted.skip_bad:
                    raise
                if len(faults) < TOLD:
                    faults.append(str(error))
        if frames:
            kept += len(frames)
            piece, last = _assemble(recording, wanted, frames, last)
            yield piece
    if not kept:
        raise InputError(f"{recording.table.csv}: expected a good frame, found {count} bad ones; first: {faults[0]}")
    if faults:
        told.append(f"{count - kept} frames bad, dropped; first: {'; '.join(faults)}")


def _parts(drive: np.ndarray) -> list[int]:
    """Number of the piece that each row belongs to: of a drive up to `PIECE` rows."""
    start = np.append(True, drive[1:] != drive[:-1])
    within = np.arange(len(drive)) - np.maximum.accumulate(np.where(start, np.arange(len(drive)), 0))
    return np.cumsum(within % PIECE == 0).tolist()


def _read_frame(
    recording: Recording, wanted: Wanted, shapes: dict[str, tuple[int, ...]], row: int
) -> dict[str, np.ndarray]:
    """Arrays of the files that a row names; places that are not needed are NaN where they are not there."""
    frame = {name: read_file(recording, name, row) for name in (*wanted.read, "power")}
    for name, array in frame.items():
        if array.shape != shapes.get(name, array.shape):
            expected = f"expected {list(shapes[name])}, as the first frame has"
            raise InputError(f"{_named(recording, name, row)}: {expected}, found {list(array.shape)}")
    _check_beam(recording.table, frame["power"], row)
    for name in ("station", "car"):
        there = name in recording.paths and os.path.exists(recording.paths[name][row])
        frame[name] = read_file(recording, name, row) if there or name in wanted.places else np.full(2, np.nan)
    shapes |= {name: array.shape for name, array in frame.items()}
    return frame


def read_file(recording: Recording, name: str, row: int) -> np.ndarray:
    """One file of a frame; what is wrong with it is told with its row, column and name."""
    try:
        return COLUMNS[name].read(recording.paths[name][row])
    except InputError as error:
        raise InputError(f"{_named(recording, name, row)}: {error}") from error


def _named(recording: Recording, name: str, row: int) -> str:
    column = COLUMNS[name].name
    return f"{recording.table.row(row)}: {column} {shown(recording.table.columns[column][row])}"


def _check_beam(table: Table, power: np.ndarray, row: int) -> None:
    """Whether the best beam that a row names has its largest power; some scenarios name none."""
    if BEAM in table.columns:
        cell = table.columns[BEAM][row]
        if cell not in {str(beam + 1) for beam in np.flatnonzero(power == power.max())}:
            best = f"{power.argmax() + 1}, the beam of the largest power"
            raise InputError(f"{table.row(row)}: {BEAM}: expected {best}, found {shown(cell)}")


def _assemble(
    recording: Recording, wanted: Wanted, frames: dict[int, dict[str, np.ndarray]], last: Drives | None
) -> tuple[Drives, Drives]:
    """Frames of one drive by row as drives, and the last of them with the sensors that others are derived from.

    `last` is that of the frames before; where its slot and drive are those before the first frame's, so are sensors
    that are derived of two frames.
    """
    rows, names = [*frames], [*next(iter(frames.values()))]
    seen = {name: np.stack([frame.pop(name) for frame in frames.values()]) for name in names}
    for name in {*PLACES} & {*seen}:
        seen[name] = to_metres(seen[name], seen["station"], wanted.broadside).astype(np.float32)
    drive, slot = recording.drive[rows], recording.slot[rows]
    if wanted.simulated:
        numbers = recording.scenario, int(drive[0]), int(slot[0]) // PIECE
        seen |= sense_drive(wanted.simulated, numbers, seen["car"])
    made = Drives(sensors=seen, power=seen["power"], position=seen["car"], drive=drive, slot=slot)
    sensors = {name: seen[name] if name in seen else _derive(name, made, last) for name in wanted.sensors}
    return made.replace(sensors=sensors), jax.tree.map(lambda array: array[-1:], made)


def _derive(name: str, frames: Drives, last: Drives | None) -> np.ndarray:
    source, derive = DERIVED[name].source, DERIVED[name].derive
    follows = np.append(False, np.diff(frames.slot) == 1)
    if last is None or (last.drive[0], last.slot[0] + 1) != (frames.drive[0], frames.slot[0]):
        return derive(frames.sensors[source], follows)
    before = np.concatenate([last.sensors[source], frames.sensors[source]])
    return derive(before, np.append([False, True], follows[1:]))[1:]


def _shown_progress(rows: range, table: Table, progress: bool) -> Iterable[int]:
    if not progress:
        return rows
    console = Console()
    label = f"reading {table.csv.name}"
    if console.is_terminal:
        return track(rows, label, console=console)
    return _told(rows, label)


def _told(rows: range, label: str) -> Iterator[int]:
    print(f"{label}: {len(rows)} frames", flush=True)
    yield from rows
    print(f"{label}: done", flush=True)
