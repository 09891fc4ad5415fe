import csv
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import loadmat

from beamkd.base import InputError
from beamkd.data import origin, read_deepsense, write_deepsense
from beamkd.data.deepsense.writer import MARKER, ORIGIN

REAL_HEADER = (
    "index,unit1_rgb,unit1_pwr_60ghz,unit1_loc,unit1_lidar,unit1_lidar_SCR,unit1_radar,unit2_loc,unit2_loc_cal,,"
    "unit1_beam_index,seq_index,time_stamp[UTC]"
)


def table(folder: Path, name: str = "scenario8.csv") -> list[dict[str, str]]:
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def test_header_is_that_of_the_real_files_with_its_blank_column(scenario):
    assert (scenario / "scenario8.csv").read_text().splitlines()[0] == REAL_HEADER


def test_scan_holds_range_and_bearing(drives, scenario):
    data = loadmat(scenario / table(scenario)[2]["unit1_lidar_SCR"])["data"]
    assert data.shape == (216, 2)
    np.testing.assert_array_equal(data[:, 0], drives.sensors["lidar"][2])
    np.testing.assert_allclose(data[:, 1], -64.8 + 0.6 * np.arange(216), atol=1e-9)


def test_powers_and_positions_are_one_number_a_line(drives, scenario):
    row = table(scenario)[1]
    power = np.loadtxt(scenario / row["unit1_pwr_60ghz"])
    np.testing.assert_array_equal(power.astype(np.float32), drives.power[1])
    assert len((scenario / row["unit1_pwr_60ghz"]).read_text().splitlines()) == 64
    for column in ("unit1_loc", "unit2_loc_cal"):
        assert np.loadtxt(scenario / row[column]).shape == (2,)


def test_best_beams_count_from_1_and_drives_keep_their_numbers(drives, scenario):
    rows = table(scenario)
    assert [int(row["unit1_beam_index"]) for row in rows] == [int(beam) + 1 for beam in drives.beam]
    assert [int(row["seq_index"]) for row in rows] == [3] * 5 + [1] * 4


def test_index_and_time_run_on_over_gaps(drives, tmp_path):
    write_deepsense(drives.replace(slot=jnp.array([0, 1, 3, 4, 5, 0, 1, 2, 9])), tmp_path / "gaps", 31)
    rows = table(tmp_path / "gaps", "scenario31.csv")
    assert [int(row["index"]) for row in rows] == [1, 2, 4, 5, 6, 7, 8, 9, 16]
    stamps = [row["time_stamp[UTC]"] for row in rows]
    assert stamps[:3] == ["['16-45-00-000']", "['16-45-00-111']", "['16-45-00-333']"]
    assert stamps[-1] == "['16-45-01-665']"


def test_a_folder_with_files_is_left_alone(drives, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match="taken"):
        write_deepsense(drives, tmp_path / "taken")
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "thesis.tex"]


def test_a_written_folder_says_of_itself_that_it_is_simulated(scenario):
    text = (scenario / MARKER).read_text()
    assert "beamkd" in text and "simulated" in text
    assert origin(scenario) == ORIGIN


def test_another_folder_says_nothing(scenario):
    (scenario / MARKER).unlink()
    assert origin(scenario) is None


def test_a_written_folder_is_told_from_its_neighbour_by_where_the_table_is(drives, scenario, tmp_path):
    write_deepsense(drives, tmp_path / "Scenario9" / "DEV[95%]", 9)
    (scenario / MARKER).unlink()
    assert origin(tmp_path, 8) is None
    assert origin(str(tmp_path), 9) == ORIGIN


@pytest.mark.parametrize("marker", ["empty", "no text", "absurdly large", "folder", "link out", "link to nowhere"])
def test_a_marker_is_one_whatever_it_holds_and_is_not_opened(drives, scenario, tmp_path, marker, monkeypatch):
    path = scenario / MARKER
    path.unlink()
    if marker == "folder":
        path.mkdir()
    elif marker.startswith("link"):
        path.symlink_to("/etc/passwd" if marker == "link out" else tmp_path / "nowhere")
    else:
        path.write_bytes(b"\xff\0{" if marker == "no text" else b"")
        os.truncate(path, 2**30 if marker == "absurdly large" else path.stat().st_size)  # takes no room on the disk
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", None)
        assert origin(scenario) == ORIGIN
    np.testing.assert_array_equal(read_deepsense(scenario).power, drives.power)


def test_a_written_folder_is_not_written_again(drives, scenario):
    with pytest.raises(InputError, match="expected an empty folder or none"):
        write_deepsense(drives, scenario)


def test_where_no_scenario_is_nothing_is_said_of_it(scenario, tmp_path):
    for folder, number in ((tmp_path / "nowhere", 8), (scenario, 9)):
        with pytest.raises(InputError, match="expected"):
            origin(folder, number)


def test_a_file_in_place_of_the_folder_is_left_alone(drives, tmp_path):
    (tmp_path / "taken").write_text("all of it")
    with pytest.raises(InputError, match="taken"):
        write_deepsense(drives, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "all of it"


def test_an_empty_folder_is_filled_and_missing_ones_are_made(drives, tmp_path):
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        write_deepsense(drives, target)
        assert sorted(path.name for path in target.iterdir()) == ["scenario8.csv", "unit1", "unit2", MARKER]
        assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []


def test_a_failed_writing_leaves_nothing_behind(drives, tmp_path, monkeypatch):
    def full(path, _):
        if path.name.endswith("5.mat"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("scipy.io.savemat", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_deepsense(drives, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def with_value(drives, name, value):
    array = drives.sensors["lidar"] if name == "lidar" else getattr(drives, name)
    array = array.at[2, 1].set(value)
    return drives.replace(sensors={"lidar": array}) if name == "lidar" else drives.replace(**{name: array})


BAD_DRIVES = {
    "power negative": lambda d: with_value(d, "power", -1.0),
    "power NaN": lambda d: with_value(d, "power", jnp.nan),
    "lidar infinite": lambda d: with_value(d, "lidar", jnp.inf),
    "lidar negative": lambda d: with_value(d, "lidar", -0.1),
    "position infinite": lambda d: with_value(d, "position", jnp.inf),
    "position farther than the earth is wide": lambda d: with_value(d, "position", 3e7),
    "powers of 32 beams": lambda d: d.replace(power=d.power[:, :32]),
    "slots of another number of frames": lambda d: d.replace(slot=d.slot[:5]),
    "a sensor the format has no file for": lambda d: d.replace(sensors={"sonar": d.power}),
    "a drive split": lambda d: d.replace(drive=d.drive.at[8].set(3)),
    "slots going back": lambda d: d.replace(slot=d.slot[::-1]),
    "a slot twice": lambda d: d.replace(slot=d.slot.at[2].set(1)),
    "no frames": lambda d: d.replace(
        sensors={}, power=d.power[:0], position=d.position[:0], drive=d.drive[:0], slot=d.slot[:0]
    ),
}


@pytest.mark.parametrize("fault", BAD_DRIVES)
def test_drives_that_do_not_fit_the_format_are_refused_in_one_line(drives, tmp_path, fault):
    with pytest.raises(InputError, match="expected .* found") as caught:
        write_deepsense(BAD_DRIVES[fault](drives), tmp_path / "target")
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_scenario_number_must_be_positive(drives, tmp_path):
    with pytest.raises(InputError, match="scenario"):
        write_deepsense(drives, tmp_path / "target", 0)
