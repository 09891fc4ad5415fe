"""The columns of a DeepSense CSV: their names, their files, and the functions that read, write and check one file.

A further sensor is one line in `COLUMNS` if files hold it, or in `DERIVED` if it is computed from one that they hold,
and its functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beamkd.data.deepsense.derived import doppler_angle_maps, packed_masks, range_angle_maps
from beamkd.data.deepsense.files import (
    check_beat,
    check_place,
    check_power,
    check_scan,
    read_beat,
    read_place,
    read_power,
    read_scan,
    write_beat,
    write_numbers,
    write_place,
    write_scan,
)
from beamkd.data.deepsense.pictures import check_picture, read_picture, write_picture
from beamkd.data.deepsense.table import DRIVE, INDEX


@dataclass(frozen=True)
class Column:
    """A column whose cells name files, one for each frame.

    Attributes:
      name: in the header of the CSV.
      path: of a frame's file in folders that we write; '{}' is the frame's number.
      read: from the path of a file to the frame's array; `InputError` where it is bad.
      write: a frame's array to the path of a file.
      check: `InputError` where a file cannot hold a frame's array.

    A sensor has all three functions. Places are read in degrees, checked and written in metres.
    """

    name: str
    path: str
    read: Callable[[str], np.ndarray] | None = None
    write: Callable[[Path, np.ndarray], None] | None = None
    check: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Derived:
    """A sensor that is computed from another one, which files hold.

    Attributes:
      source: name of the other one.
      derive: frames of the source in a row, [N, ...], and which of them follow a frame, [N] bool, to [N, ...].
    """

    source: str
    derive: Callable[[np.ndarray, np.ndarray], np.ndarray]


COLUMNS = {
    "camera": Column("unit1_rgb", "unit1/camera_data/image_{}.jpg", read_picture, write_picture, check_picture),
    "power": Column("unit1_pwr_60ghz", "unit1/mmWave_data/mmWave_power_{}.txt", read_power, write_numbers, check_power),
    "station": Column("unit1_loc", "unit1/GPS_data/gps_location.txt", read_place, write_place),
    "whole lidar": Column("unit1_lidar", "unit1/lidar_data/Lidar_data_{}.mat"),
    "lidar": Column("unit1_lidar_SCR", "unit1/lidar_SCR_data/Lidar_data_{}.mat", read_scan, write_scan, check_scan),
    "beat": Column("unit1_radar", "unit1/radar_data/data_{}.mat", read_beat, write_beat, check_beat),
    "gps": Column("unit2_loc", "unit2/GPS_data/gps_location_{}.txt", read_place, write_place, check_place),
    "car": Column("unit2_loc_cal", "unit2/GPS_data_calibrated/gps_location_{}.txt", read_place, write_place),
}
"""Sensors and quantities by our names, in the order of the real files' columns. Rows that we write name all these
files, there or not, as after a partial download. 'whole lidar' is the scan with the static clutter, 'beat' the radar's
beat signals, 'gps' the car's position before its calibration."""

DERIVED = {
    "radar": Derived("beat", range_angle_maps),
    "doppler": Derived("beat", doppler_angle_maps),
    "masks": Derived("camera", packed_masks),
}
"""Sensors that are computed from others: range-angle and Doppler-angle maps, and motion masks."""

QUANTITIES = ("power", "station", "car")
"""What is read besides sensors: powers, and where the base station and the car are."""

PLACES = ("gps", "car")
"""What is read as degrees and held as metres from the base station."""

SENSORS = {name: column for name, column in COLUMNS.items() if column.read and name not in QUANTITIES}
"""Columns of the sensors that files hold, which can be read and written."""

COSTLY = ("camera", *DERIVED)
"""Sensors that take long to read or to simulate: these are kept on disk."""

BEAM, TIME = "unit1_beam_index", "time_stamp[UTC]"
"""Columns of the best beam, counted from 1, and of a row's time."""

HEADER = [INDEX, *(column.name for column in COLUMNS.values()), "", BEAM, DRIVE, TIME]
"""All columns of the real files, the blank one among them."""
