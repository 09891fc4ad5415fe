"""Drives as a DeepSense 6G scenario folder, for this reader and for other people's programs."""

import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from beamkd.base import SLOT_SECONDS, Drives, InputError
from beamkd.data.deepsense.columns import BEAM, COLUMNS, DERIVED, HEADER, QUANTITIES, SENSORS, TIME
from beamkd.data.deepsense.files import FARTHEST
from beamkd.data.deepsense.table import DRIVE, INDEX, find_csv

MARKER, ORIGIN = "written_by_beamkd.txt", "written by beamkd: simulated, unless it was given measured drives"
"""File beside the CSV that tells a folder of ours from a recording, and what it says. That it is there says all."""

SLOT_MS = round(1000 * SLOT_SECONDS)
"""Milliseconds between frames."""

START_MS = (16 * 60 + 45) * 60_000
"""Milliseconds after midnight of the first frame, 16-45-00."""


def write_deepsense(drives: Drives, folder: str | os.PathLike, scenario: int = 8) -> None:
    """Writes drives as a DeepSense scenario; `read_deepsense` gives the same arrays back, to the last bit.

    But for the camera's frames: they become JPEGs of the highest quality, and a few gray levels in a hundred come back
    one or two off. What is derived is not written: 'radar' and 'doppler' come of 'beat', 'masks' of 'camera'.

    `index` and time stamps run on over slots without a frame, so that a gap is read back as a gap; slots are
    read back counted from the drive's first frame. Positions go to `unit2_loc_cal`, a NaN to no file. The
    folder appears only when it is complete. A file in it, `MARKER`, says where it comes from, as reports on it do.

    Args:
      drives: F frames with 64 beams, and no sensors but those of `SENSORS`.
      folder: where to; must not be there yet, or be empty. Folders above it are made.
      scenario: number that the CSV is named after.

    Raises:
      InputError: the folder is there and not empty, cannot be written, or the drives do not fit the format.
    """
    if not isinstance(scenario, int) or scenario < 1:
        raise InputError(f"scenario: expected a positive integer, found {scenario!r}")
    arrays = _checked(drives)
    target = Path(folder).resolve()
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise InputError(f"{folder}: expected an empty folder or none, found one with files, or a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            complete = Path(scratch) / target.name
            _write(arrays, complete, f"scenario{scenario}.csv")
            if target.exists():
                target.rmdir()  # it is empty; some systems do not rename onto a folder
            complete.rename(target)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error


def origin(folder: str | os.PathLike | Sequence[str | os.PathLike], scenario: int | None = None) -> str | None:
    """Where what `read_deepsense` finds comes from: `ORIGIN` if `write_deepsense` wrote a folder of it, or else None.

    Whatever stands under the name `MARKER` counts; it is neither opened nor followed.

    Raises:
      InputError: there is no such scenario.
    """
    folders = [folder] if isinstance(folder, str | os.PathLike) else folder
    tables = [find_csv(Path(place), scenario) for place in folders]
    return ORIGIN if any(os.path.lexists(table.parent / MARKER) for table in tables) else None


def _checked(drives: Drives) -> dict[str, np.ndarray]:
    """The drives' arrays by name, on the host, found to fit the format."""
    unknown = sorted(set(drives.sensors) - set(SENSORS))
    for name in unknown:
        if name in DERIVED:
            source = DERIVED[name].source
            raise InputError(f"sensors: expected {source!r}, which files hold and {name!r} comes of, found {name!r}")
    if unknown:
        raise InputError(f"sensors: expected only {sorted(SENSORS)} in drives to write, found {unknown}")
    arrays = {name: np.asarray(array) for name, array in drives.sensors.items()}
    arrays |= {name: np.asarray(getattr(drives, name)) for name in ("power", "position", "drive", "slot")}
    count = len(arrays["drive"])
    for name, shape in {"position": (count, 2), "slot": (count,)}.items():
        if arrays[name].shape != shape:
            raise InputError(f"drives: expected {name} {list(shape)}, found {list(arrays[name].shape)}")
    if not count:
        raise InputError("drives: expected at least one frame, found none")
    for name in (*drives.sensors, "power"):
        if len(arrays[name]) != count:
            raise InputError(f"drives: expected {count} frames of {name}, found {len(arrays[name])}")
        for number, frame in enumerate(arrays[name]):
            try:
                COLUMNS[name].check(frame)
            except InputError as error:
                raise InputError(f"drives: {name} of frame {number}: {error}") from error
    if (abs(arrays["position"]) > FARTHEST).any():
        raise InputError(f"drives: expected position within {FARTHEST:,.0f} m or NaN, found otherwise")
    _index(arrays["drive"], arrays["slot"])
    return arrays


def _index(drive: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Column `index` of each frame, [F] from 1: one a slot, those without a frame counted too."""
    start = np.append(True, drive[1:] != drive[:-1])
    step = np.where(start, 1, np.diff(slot, prepend=0))
    if start.sum() != len(np.unique(drive)) or (step < 1).any():
        raise InputError("drives: expected the frames of each drive together with slots ascending, found otherwise")
    return np.cumsum(step)


def _write(arrays: dict[str, np.ndarray], folder: Path, name: str) -> None:
    sensed = [sensor for sensor in SENSORS if sensor in arrays]
    for written in (*sensed, *QUANTITIES):
        (folder / COLUMNS[written].path).parent.mkdir(parents=True, exist_ok=True)

    def write(quantity: str, frame: int, array: np.ndarray) -> None:
        column = COLUMNS[quantity]
        column.write(folder / column.path.format(frame), array)

    write("station", 0, np.zeros(2))  # one file for all frames
    for frame, place in enumerate(arrays["position"]):
        for quantity in (*sensed, "power"):
            write(quantity, frame, arrays[quantity][frame])
        if not np.isnan(place).any():
            write("car", frame, place)
    _write_table(folder / name, arrays)
    (folder / MARKER).write_text(f"{ORIGIN}\n")


def _write_table(path: Path, arrays: dict[str, np.ndarray]) -> None:
    best = arrays["power"].argmax(-1) + 1
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, HEADER)
        table.writeheader()
        for i, index in enumerate(_index(arrays["drive"], arrays["slot"])):
            row = {column.name: f"./{column.path.format(i)}" for column in COLUMNS.values()}
            row |= {INDEX: index, "": "", BEAM: best[i], DRIVE: arrays["drive"][i], TIME: _stamp(index)}
            table.writerow(row)


def _stamp(index: int) -> str:
    """Time of a frame as in the real files, brackets and quotes included; past midnight it starts again."""
    seconds, milliseconds = divmod(START_MS + SLOT_MS * (int(index) - 1), 1000)
    return f"['{seconds // 3600 % 24:02d}-{seconds // 60 % 60:02d}-{seconds % 60:02d}-{milliseconds:03d}']"
