import dataclasses

import numpy as np

from beamkd.data import read_deepsense, write_deepsense
from beamkd.data.deepsense.columns import COLUMNS, SENSORS


def test_a_further_sensor_is_written_and_read_once_its_column_has_functions(drives, tmp_path, monkeypatch):
    sonar = dataclasses.replace(COLUMNS["lidar"], name="unit1_radar", path="unit1/sonar/{}.mat")
    monkeypatch.setitem(COLUMNS, "radar", sonar)
    monkeypatch.setitem(SENSORS, "radar", sonar)
    both = drives.replace(sensors={"lidar": drives.sensors["lidar"], "radar": 2 * drives.sensors["lidar"]})
    write_deepsense(both, tmp_path / "both")
    read = read_deepsense(tmp_path / "both", sensors=("radar", "lidar"))
    assert set(read.sensors) == {"lidar", "radar"}
    for name, frames in both.sensors.items():
        np.testing.assert_array_equal(read.sensors[name], frames)


def test_no_two_columns_share_a_name_or_a_file():
    for field in ("name", "path"):
        assert len({getattr(column, field) for column in COLUMNS.values()}) == len(COLUMNS)
