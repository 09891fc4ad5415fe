"""The columns of a DeepSense CSV: their names, their files, and the functions that read, write and check one file.

A further sensor is one line in `COLUMNS`, and its functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beamkd.data.deepsense.files import (
    check_power,
    check_scan,
    read_place,
    read_power,
    read_scan,
    write_numbers,
    write_scan,
)
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

    A sensor has all three functions. Places are checked in metres, before they are written; other columns have none.
    """

    name: str
    path: str
    read: Callable[[str], np.ndarray] | None = None
    write: Callable[[Path, np.ndarray], None] | None = None
    check: Callable[[np.ndarray], np.ndarray] | None = None


COLUMNS = {
    "camera": Column("unit1_rgb", "unit1/camera_data/image_{}.jpg"),
    "power": Column("unit1_pwr_60ghz", "unit1/mmWave_data/mmWave_power_{}.txt", read_power, write_numbers, check_power),
    "station": Column("unit1_loc", "unit1/GPS_data/gps_location.txt", read_place, write_numbers),
    "whole lidar": Column("unit1_lidar", "unit1/lidar_data/Lidar_data_{}.mat"),
    "lidar": Column("unit1_lidar_SCR", "unit1/lidar_SCR_data/Lidar_data_{}.mat", read_scan, write_scan, check_scan),
    "radar": Column("unit1_radar", "unit1/radar_data/data_{}.mat"),
    "raw car": Column("unit2_loc", "unit2/GPS_data/gps_location_{}.txt"),
    "car": Column("unit2_loc_cal", "unit2/GPS_data_calibrated/gps_location_{}.txt", read_place, write_numbers),
}
"""Sensors and quantities by our names, in the order of the real files' columns. Rows that we write name all these
files, there or not, as after a partial download. 'whole lidar' is the scan with the static clutter, 'raw car' the
position before its calibration."""

QUANTITIES = ("power", "station", "car")
"""What is read besides sensors: powers, and where the base station and the car are."""

SENSORS = {name: column for name, column in COLUMNS.items() if column.read and name not in QUANTITIES}
"""Columns of the sensors that can be read and written."""

BEAM, TIME = "unit1_beam_index", "time_stamp[UTC]"
"""Columns of the best beam, counted from 1, and of a row's time."""

HEADER = [INDEX, *(column.name for column in COLUMNS.values()), "", BEAM, DRIVE, TIME]
"""All columns of the real files, the blank one among them."""
