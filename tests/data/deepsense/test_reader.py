import logging
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.data import read_deepsense, write_deepsense
from beamkd.sim import RAYS
from beamkd.sim.street import BODY, LIDAR_OFFSET

SHARED = Path(__file__).parents[3].parent / "shared"


def assert_same(one, other):
    assert set(one.sensors) == set(other.sensors)
    pairs = [(one.sensors[name], other.sensors[name]) for name in one.sensors]
    pairs += [(getattr(one, name), getattr(other, name)) for name in ("power", "position", "drive", "slot")]
    for a, b in pairs:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_what_was_written_is_read_back_to_the_last_bit(drives, scenario):
    assert_same(read_deepsense(scenario), drives)


def test_arrays_are_float32_and_int32_on_the_device(scenario):
    read = read_deepsense(scenario)
    for array in (read.power, read.position, read.sensors["lidar"]):
        assert isinstance(array, jnp.ndarray)
        assert array.dtype == jnp.float32
    assert read.drive.dtype == read.slot.dtype == jnp.int32


def test_gaps_in_slots_are_read_back(drives, tmp_path):
    gaps = drives.replace(slot=jnp.array([0, 1, 4, 5, 9, 0, 2, 3, 4], jnp.int32))
    write_deepsense(gaps, tmp_path / "gaps", scenario=9)
    assert_same(read_deepsense(tmp_path / "gaps", 9), gaps)


def test_slots_count_from_the_first_row_of_a_drive(drives, tmp_path):
    late = drives.replace(slot=jnp.array([2, 3, 6, 7, 8, 1, 2, 3, 4], jnp.int32))
    write_deepsense(late, tmp_path / "late")
    np.testing.assert_array_equal(read_deepsense(tmp_path / "late").slot, [0, 1, 4, 5, 6, 0, 1, 2, 3])


def test_index_may_start_anywhere(drives, scenario):
    path = scenario / "scenario8.csv"
    header, *rows = path.read_text().splitlines()
    moved = [f"{int(row.split(',')[0]) + 700},{row.split(',', 1)[1]}" for row in rows]
    path.write_text("\n".join([header, *moved]))
    assert_same(read_deepsense(scenario), drives)


def test_part_of_a_scenario_is_found_by_its_own_name(drives, scenario):
    (scenario / "scenario8.csv").rename(scenario / "scenario8_dev.csv")
    assert_same(read_deepsense(scenario), drives)


@pytest.mark.parametrize("below", ["DEV[95%]", "Scenario8/DEV[95%]", "my [a-b]* folder"])
def test_folder_may_hold_the_scenario_in_a_folder_of_any_name(drives, scenario, tmp_path, below):
    target = tmp_path / "download" / below
    target.parent.mkdir(parents=True)
    scenario.rename(target)
    assert_same(read_deepsense(tmp_path / "download"), drives)
    assert_same(read_deepsense(str(target)), drives)


def test_scenario_number_chooses_among_scenarios(drives, scenario, tmp_path):
    write_deepsense(drives.replace(drive=drives.drive + 1), tmp_path / "Scenario9", 9)
    assert read_deepsense(tmp_path, 9).drive[0] == 4
    assert read_deepsense(tmp_path, 8).drive[0] == 3


@pytest.mark.parametrize("start", ["/unit1/", "unit1/"])
def test_paths_may_start_with_a_slash_or_bare(drives, scenario, edit_csv, start):
    edit_csv("./unit1/", start)
    assert_same(read_deepsense(scenario), drives)


def test_byte_order_mark_blank_lines_and_spaces_are_no_trouble(drives, scenario):
    path = scenario / "scenario8.csv"
    text = path.read_text().replace(",seq_index", ", seq_index ").replace("\n", "\n\n")
    path.write_text("\ufeff" + text + "\n")
    assert_same(read_deepsense(scenario), drives)


def test_column_of_best_beams_may_be_missing(drives, scenario, edit_csv):
    edit_csv("unit1_beam_index", "something_else")
    assert_same(read_deepsense(scenario), drives)


def test_positions_that_are_not_there_are_nan_when_lidar_is_measured(drives, scenario):
    for file in (scenario / "unit2").rglob("*.txt"):
        file.unlink()
    read = read_deepsense(scenario)
    assert np.isnan(read.position).all()
    assert_same(read.replace(position=drives.position), drives)


@pytest.mark.parametrize("column", ["unit1_loc", "unit2_loc_cal"])
def test_position_is_nan_where_its_column_is_missing(scenario, edit_csv, column):
    edit_csv(f"{column},", "gone,", 1)
    assert np.isnan(read_deepsense(scenario).position).all()


def test_nan_position_is_written_as_no_file_and_read_as_nan(drives, tmp_path):
    some = drives.replace(position=drives.position.at[4].set(jnp.nan))
    write_deepsense(some, tmp_path / "some")
    assert_same(read_deepsense(tmp_path / "some"), some)


def test_raycast_needs_no_lidar_files(drives, scenario):
    for file in (scenario / "unit1" / "lidar_SCR_data").iterdir():
        file.unlink()
    read = read_deepsense(scenario, lidar="raycast")
    assert read.sensors["lidar"].shape == (9, 216)
    assert_same(read.replace(sensors=drives.sensors), drives)


def test_without_sensors_only_powers_are_needed(drives, scenario):
    for folder in ("unit1/lidar_SCR_data", "unit2/GPS_data_calibrated"):
        for file in (scenario / folder).iterdir():
            file.unlink()
    read = read_deepsense(scenario, sensors=())
    assert dict(read.sensors) == {}
    np.testing.assert_array_equal(read.power, drives.power)


def slab_ranges(position):
    """Entry and exit of rays through the car's body, [F, 216] each, in float64."""
    ray = np.stack([np.cos(RAYS.astype(float)), np.sin(RAYS.astype(float))], -1)
    half = np.array([BODY[1], BODY[0]]) / 2  # across the road is x
    centre = (np.asarray(position, float) + LIDAR_OFFSET)[:, None]
    with np.errstate(divide="ignore"):  # the ray along broadside
        sides = np.sort(np.stack([(centre - half) / ray, (centre + half) / ray]), 0)
    return sides[0].max(-1), sides[1].min(-1)


def test_raycast_is_the_exact_range_to_the_body(drives, tmp_path):
    track = np.stack([np.linspace(8, 13, 9), np.linspace(-14, 14, 9)], -1)
    write_deepsense(drives.replace(position=jnp.asarray(track, jnp.float32)), tmp_path / "track")
    scan = np.asarray(read_deepsense(tmp_path / "track", lidar="raycast").sensors["lidar"])
    entry, leave = slab_ranges(track)
    clear = np.abs(leave - entry) > 1e-3  # a ray through a corner may round either way
    expected = np.where((entry < leave) & (entry > 0), entry, 0.0)
    assert (expected > 0).any(-1).all()
    np.testing.assert_allclose(scan[clear], expected[clear], atol=1e-4)


def test_broadside_turns_positions(drives, scenario):
    east, north = np.asarray(drives.position).T
    turned = read_deepsense(scenario, broadside=90.0).position
    np.testing.assert_allclose(turned, np.stack([north, -east], -1), atol=1e-5)


def test_dropped_frames_are_counted_and_the_first_are_named(drives, scenario, caplog):
    (scenario / "unit1" / "mmWave_data" / "mmWave_power_1.txt").unlink()
    (scenario / "unit1" / "lidar_SCR_data" / "Lidar_data_6.mat").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        read = read_deepsense(scenario, skip_bad=True)
    np.testing.assert_array_equal(read.drive, [3, 3, 3, 3, 1, 1, 1])
    np.testing.assert_array_equal(read.slot, [0, 2, 3, 4, 0, 2, 3])
    np.testing.assert_array_equal(read.power, np.delete(drives.power, [1, 6], 0))
    (record,) = caplog.records
    assert "2 frames bad, dropped" in record.message
    assert "index 2" in record.message
    assert "index 7" in record.message
    assert "\n" not in record.message


def test_nothing_is_logged_when_all_frames_are_good(drives, scenario, caplog):
    assert_same(read_deepsense(scenario, skip_bad=True), drives)
    assert not caplog.records


def test_progress_is_plain_lines_away_from_a_terminal(scenario, capsys):
    read_deepsense(scenario, progress=True)
    out = capsys.readouterr().out
    assert "9 frames" in out
    assert "\x1b" not in out


def test_progress_changes_nothing(drives, scenario):
    assert_same(read_deepsense(scenario, progress=True), drives)


def test_no_progress_is_shown_unless_asked_for(scenario, capsys):
    read_deepsense(scenario)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.skipif(not SHARED.exists(), reason="needs the measured Scenario 8 tracks")
def test_measured_scenario_8_is_read_as_it_was_measured(tmp_path):
    tool, drives = SHARED / "tools" / "make_scenario8.py", 6
    subprocess.run([sys.executable, tool, "--out", tmp_path / "s8", "--drives", str(drives)], check=True)
    pack = np.load(SHARED / "data" / "scenario8_tracks.npz")
    keep = pack["drive"] <= np.unique(pack["drive"])[drives - 1]
    measured, cast = (read_deepsense(tmp_path / "s8", lidar=lidar) for lidar in ("measured", "raycast"))
    np.testing.assert_array_equal(measured.drive, pack["drive"][keep])
    np.testing.assert_allclose(measured.power, pack["power"][keep], rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(measured.beam, pack["power"][keep].argmax(-1))
    np.testing.assert_allclose(measured.position, pack["position_enu"][keep], atol=2e-3)  # files hold 8 decimals
    both = (np.asarray(measured.sensors["lidar"]) > 0) & (np.asarray(cast.sensors["lidar"]) > 0)
    apart = np.asarray(measured.sensors["lidar"] - cast.sensors["lidar"])[both]
    assert both.sum() > 20 * keep.sum()
    assert np.abs(np.median(apart)) < 0.01  # the folder's scans have 0.03 m of noise on the same geometry
    assert np.quantile(np.abs(apart), 0.9) < 0.1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"scenario": 0}, "scenario"),
        ({"scenario": -8}, "scenario"),
        ({"scenario": "8"}, "scenario"),
        ({"lidar": "simulated"}, "lidar"),
        ({"sensors": ("lidar", "sonar")}, "sonar"),
        ({"sensors": "lidar"}, "sensors"),
        ({"broadside": float("nan")}, "broadside"),
    ],
)
def test_a_bad_argument_is_named(scenario, arguments, named):
    with pytest.raises(InputError, match=named):
        read_deepsense(scenario, **arguments)
