"""Drives as a DeepSense 6G scenario folder, for this reader and for other people's programs."""

import csv
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from beamkd.base import Drives, InputError
from beamkd.data.deepsense_files import BEAMS
from beamkd.data.deepsense_table import CAR, POWER, STATION, find_csv
from beamkd.data.geodesy import to_degrees
from beamkd.sim import RAYS

HEADER = [
    "index", "unit1_rgb", "unit1_pwr_60ghz", "unit1_loc", "unit1_lidar", "unit1_lidar_SCR", "unit1_radar",
    "unit2_loc", "unit2_loc_cal", "", "unit1_beam_index", "seq_index", "time_stamp[UTC]",
]  # fmt: skip
"""Columns of the real files, the blank one among them."""

FILES = {
    "unit1_rgb": "unit1/camera_data/image_{}.jpg",
    "unit1_pwr_60ghz": "unit1/mmWave_data/mmWave_power_{}.txt",
    "unit1_loc": "unit1/GPS_data/gps_location.txt",
    "unit1_lidar": "unit1/lidar_data/Lidar_data_{}.mat",
    "unit1_lidar_SCR": "unit1/lidar_SCR_data/Lidar_data_{}.mat",
    "unit1_radar": "unit1/radar_data/data_{}.mat",
    "unit2_loc": "unit2/GPS_data/gps_location_{}.txt",
    "unit2_loc_cal": "unit2/GPS_data_calibrated/gps_location_{}.txt",
}
"""File of each column for a frame. Rows name them all, there or not, as after a partial download."""

MARKER, ORIGIN = "written_by_beamkd.txt", "written by beamkd: simulated, unless it was given measured drives"
"""File beside the CSV that tells a folder of ours from a recording, and what it says. That it is there says all."""

STATION_PLACE = (0.0, 0.0)
"""Degrees latitude and longitude of the base station. At the origin a degree in float64 holds nothing but the
car's offset, so that a position of any size is read back to the last bit; elsewhere it resolves 1e-9 m."""

FARTHEST = 1e6
"""Metres. Beyond, latitude and longitude would wrap around the earth."""

SLOT_MS = 111
"""Milliseconds between frames."""

START_MS = (16 * 60 + 45) * 60_000
"""Milliseconds after midnight of the first frame, 16-45-00."""


def write_deepsense(drives: Drives, folder: str | os.PathLike, scenario: int = 8) -> None:
    """Writes drives as a DeepSense scenario; `read_deepsense` gives the same arrays back, to the last bit.

    `index` and time stamps run on over slots without a frame, so that a gap is read back as a gap; slots are
    read back counted from the drive's first frame. Positions go to `unit2_loc_cal`, a NaN to no file. The
    folder appears only when it is complete. A file in it, `MARKER`, says where it comes from, as reports on it do.

    Args:
      drives: F frames with 64 beams and no sensor but 'lidar'.
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


def origin(folder: str | os.PathLike, scenario: int = 8) -> str | None:
    """Where the folder that `read_deepsense` finds comes from: `ORIGIN` if `write_deepsense` wrote it, or else None.

    Whatever stands under the name `MARKER` counts; it is neither opened nor followed.

    Raises:
      InputError: there is no such scenario.
    """
    return ORIGIN if os.path.lexists(find_csv(Path(folder), scenario).parent / MARKER) else None


def _checked(drives: Drives) -> dict[str, np.ndarray]:
    """The drives' arrays by name, on the host, found to fit the format."""
    unknown = sorted(set(drives.sensors) - set(SENSORS))
    if unknown:
        raise InputError(f"sensors: expected only {sorted(SENSORS)} in drives to write, found {unknown}")
    arrays = {name: np.asarray(array) for name, array in drives.sensors.items()}
    arrays |= {name: np.asarray(getattr(drives, name)) for name in ("power", "position", "drive", "slot")}
    count = len(arrays["drive"])
    shapes = {"lidar": (count, len(RAYS)), "power": (count, BEAMS), "position": (count, 2), "slot": (count,)}
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise InputError(f"drives: expected {name} {list(shape)}, found {list(arrays[name].shape)}")
    if not count:
        raise InputError("drives: expected at least one frame, found none")
    for name in {"lidar", "power"} & set(arrays):
        bad = ~(np.isfinite(arrays[name]) & (arrays[name] >= 0)).all(-1)
        if bad.any():
            raise InputError(
                f"drives: expected {name} finite and not negative, found otherwise in frame {bad.argmax()}"
            )
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
    sensed = {sensor: SENSORS[sensor] for sensor in SENSORS if sensor in arrays}
    for column in (POWER, STATION, CAR, *(column for column, _ in sensed.values())):
        (folder / FILES[column]).parent.mkdir(parents=True, exist_ok=True)
    _write_numbers(folder / FILES[STATION], np.array(STATION_PLACE))
    places = to_degrees(arrays["position"], STATION_PLACE)
    for i in range(len(places)):
        for sensor, (column, write) in sensed.items():
            write(folder / FILES[column].format(i), arrays[sensor][i])
        _write_numbers(folder / FILES[POWER].format(i), arrays["power"][i])
        if not np.isnan(places[i]).any():
            _write_numbers(folder / FILES[CAR].format(i), places[i])
    _write_table(folder / name, arrays)
    (folder / MARKER).write_text(f"{ORIGIN}\n")


def _write_table(path: Path, arrays: dict[str, np.ndarray]) -> None:
    best = arrays["power"].argmax(-1) + 1
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, HEADER)
        table.writeheader()
        for i, index in enumerate(_index(arrays["drive"], arrays["slot"])):
            row = {column: f"./{name.format(i)}" for column, name in FILES.items()}
            row |= {"index": index, "": "", "unit1_beam_index": best[i]}
            table.writerow(row | {"seq_index": arrays["drive"][i], "time_stamp[UTC]": _stamp(index)})


def _write_scan(path: Path, ranges: np.ndarray) -> None:
    from scipy.io import savemat  # here, for it takes 0.2 s to import and few runs write folders

    bearing = np.rad2deg(RAYS.astype(np.float64)).round(3)  # degrees; rounded to undo float32
    savemat(path, {"data": np.stack([ranges.astype(np.float64), bearing], -1)})


def _write_numbers(path: Path, numbers: np.ndarray) -> None:
    """One number a line, with as many digits as bring back the same float."""
    path.write_text("".join(f"{number!r}\n" for number in numbers.astype(np.float64).tolist()))


def _stamp(index: int) -> str:
    """Time of a frame as in the real files, brackets and quotes included; past midnight it starts again."""
    seconds, milliseconds = divmod(START_MS + SLOT_MS * (int(index) - 1), 1000)
    return f"['{seconds // 3600 % 24:02d}-{seconds // 60 % 60:02d}-{seconds % 60:02d}-{milliseconds:03d}']"


SENSORS: dict[str, tuple[str, Callable[[Path, np.ndarray], None]]] = {"lidar": ("unit1_lidar_SCR", _write_scan)}
"""Column of each sensor, and the function that writes one frame's file."""
