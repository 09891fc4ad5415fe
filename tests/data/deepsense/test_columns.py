import dataclasses

import numpy as np

from beamkd.data import read_deepsense, write_deepsense
from beamkd.data.deepsense.columns import COLUMNS, DERIVED, HEADER, SENSORS, Derived


def test_a_further_sensor_is_written_and_read_once_its_column_has_functions(drives, tmp_path, monkeypatch):
    sonar = dataclasses.replace(COLUMNS["lidar"], name="unit1_sonar", path="unit1/sonar/{}.mat")
    monkeypatch.setitem(COLUMNS, "sonar", sonar)
    monkeypatch.setitem(SENSORS, "sonar", sonar)
    monkeypatch.setattr("beamkd.data.deepsense.writer.HEADER", [*HEADER, sonar.name])
    both = drives.replace(sensors={"lidar": drives.sensors["lidar"], "sonar": 2 * drives.sensors["lidar"]})
    write_deepsense(both, tmp_path / "both")
    read = read_deepsense(tmp_path / "both", sensors=("sonar", "lidar"))
    assert set(read.sensors) == {"lidar", "sonar"}
    for name, frames in both.sensors.items():
        np.testing.assert_array_equal(read.sensors[name], frames)


def test_a_further_derived_sensor_needs_a_function_alone(drives, scenario, monkeypatch):
    def steps(ranges, follows):
        return np.where(follows[:, None], np.diff(ranges, axis=0, prepend=ranges[:1]), -1)

    monkeypatch.setitem(DERIVED, "steps", Derived("lidar", steps))
    read = read_deepsense(scenario, sensors=("steps",)).sensors["steps"]
    ranges = np.asarray(drives.sensors["lidar"])
    expected = np.where(np.isin(np.arange(9), [0, 5])[:, None], -1, np.diff(ranges, axis=0, prepend=ranges[:1]))
    np.testing.assert_array_equal(read, expected)


def test_no_two_columns_share_a_name_or_a_file():
    for field in ("name", "path"):
        assert len({getattr(column, field) for column in COLUMNS.values()}) == len(COLUMNS)


def test_derived_sensors_come_of_sensors_that_files_hold():
    assert {derived.source for derived in DERIVED.values()} <= set(SENSORS)
    assert not set(DERIVED) & set(COLUMNS)
