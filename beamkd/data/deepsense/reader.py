"""DeepSense 6G scenario folders as drives."""

import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track

from beamkd.base import Drives, InputError
from beamkd.data.deepsense.columns import BEAM, COLUMNS, QUANTITIES, SENSORS
from beamkd.data.deepsense.table import DRIVE, INDEX, Table, files, frame_order, read_table, shown
from beamkd.data.geodesy import to_metres
from beamkd.sim.track import cast_track

TOLD = 3
"""Bad frames whose faults are told where they are dropped."""

log = logging.getLogger(__name__)


def read_deepsense(
    folder: str | os.PathLike,
    scenario: int = 8,
    *,
    lidar: str = "measured",
    sensors: Sequence[str] = ("lidar",),
    broadside: float = 0.0,
    skip_bad: bool = False,
    progress: bool = False,
) -> Drives:
    """Reads a scenario of the DeepSense 6G dataset; only the files of the sensors asked for need to be there.

    Frames keep the order of rows. A slot is a row's `index` less that of its drive's first row. A bad table,
    or a path that leaves the folder, is always an error; a frame with bad files is one unless `skip_bad`.

    Args:
      folder: with `scenarioN.csv` or `scenarioN_dev.csv`, or at most two folders above it.
      scenario: number of the scenario.
      lidar: 'measured' for the folder's own scans, or 'raycast' for scans simulated along its positions, without noise.
      sensors: names of the sensors to read, out of `SENSORS`.
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
    _check_arguments(scenario, lidar, sensors, broadside)
    cast = lidar == "raycast" and "lidar" in sensors
    sensed = [name for name in SENSORS if name in sensors and not (cast and name == "lidar")]
    needed = ["power", *sensed, *(["station", "car"] if cast else [])]
    columns = {name: COLUMNS[name].name for name in (*QUANTITIES, *sensed)}
    table = read_table(folder, scenario, [INDEX, DRIVE, *map(columns.get, needed)], [BEAM, *columns.values()])
    drive, slot = frame_order(table)
    paths = {name: files(table, column) for name, column in columns.items() if column in table.columns}

    frames, kept = _read_frames(table, paths, sensed, cast, skip_bad, progress)
    position = to_metres(frames["car"], frames["station"], broadside).astype(np.float32)
    sensed = {name: jnp.asarray(frames[name]) for name in sensed}
    if cast:
        sensed["lidar"] = cast_track(jnp.asarray(position))
    return Drives(
        sensors=sensed,
        power=jnp.asarray(frames["power"]),
        position=jnp.asarray(position),
        drive=jnp.asarray(drive[kept]),
        slot=jnp.asarray(slot[kept]),
    )


def _check_arguments(scenario, lidar, sensors, broadside) -> None:
    if not isinstance(scenario, int) or scenario < 1:
        raise InputError(f"scenario: expected a positive integer, found {scenario!r}")
    if lidar not in ("measured", "raycast"):
        raise InputError(f"lidar: expected 'measured' or 'raycast', found {lidar!r}")
    if isinstance(sensors, str) or not set(sensors) <= set(SENSORS):
        raise InputError(f"sensors: expected names out of {sorted(SENSORS)}, found {sensors!r}")
    if not math.isfinite(broadside):
        raise InputError(f"broadside: expected degrees, found {broadside!r}")


def _read_frames(
    table: Table,
    paths: dict[str, Sequence[str]],
    sensed: Sequence[str],
    cast: bool,
    skip_bad: bool,
    progress: bool,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays of all good frames by name, and the rows [F] that they stand in."""
    nowhere = np.full(2, np.nan)
    frames, kept, bad = [], [], []
    count = len(table.lines)
    for row in _shown_progress(range(count), table, progress):
        try:
            frame = {name: _read(table, paths, name, row) for name in (*sensed, "power")}
            _check_beam(table, frame["power"], row)
            for name in ("station", "car"):
                found = cast or (name in paths and os.path.exists(paths[name][row]))
                frame[name] = _read(table, paths, name, row) if found else nowhere
        except InputError as error:
            if not skip_bad:
                raise
            if len(bad) < TOLD:
                bad.append(str(error))
        else:
            frames.append(frame)
            kept.append(row)
    if not frames:
        raise InputError(f"{table.csv}: expected a good frame, found {count} bad ones; first: {bad[0]}")
    if bad:
        log.warning("%d frames bad, dropped; first: %s", count - len(kept), "; ".join(bad))
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}, np.array(kept)


def _read(table: Table, paths: dict[str, Sequence[str]], name: str, row: int) -> np.ndarray:
    """One file of a frame; what is wrong with it is told with its row, column and name."""
    column = COLUMNS[name]
    try:
        return column.read(paths[name][row])
    except InputError as error:
        cell = shown(table.columns[column.name][row])
        raise InputError(f"{table.row(row)}: {column.name} {cell}: {error}") from error


def _check_beam(table: Table, power: np.ndarray, row: int) -> None:
    """Whether the best beam that a row names has its largest power; some scenarios name none."""
    if BEAM in table.columns:
        cell = table.columns[BEAM][row]
        if cell not in {str(beam + 1) for beam in np.flatnonzero(power == power.max())}:
            best = f"{power.argmax() + 1}, the beam of the largest power"
            raise InputError(f"{table.row(row)}: {BEAM}: expected {best}, found {shown(cell)}")


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
