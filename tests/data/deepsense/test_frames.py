"""Frames of a folder one by one, against the reader's."""

import jax
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.data import read_deepsense, read_frames, with_masks, write_deepsense

SHAPES = {"lidar": (216,), "gps": (2,), "radar": (256, 64), "doppler": (32, 64), "masks": (96, 96)}


def test_sensors_are_those_of_the_reader(drives, tmp_path):
    rng = np.random.default_rng(0)
    few = jax.tree.map(lambda leaf: leaf[:5], drives)
    more = {
        "beat": (rng.normal(size=(5, 4, 256, 32)) + 1j * rng.normal(size=(5, 4, 256, 32))).astype(np.complex64),
        "camera": rng.integers(0, 256, (5, 28, 28), np.uint8).repeat(8, 1).repeat(8, 2),
        "gps": rng.normal(0, 10, (5, 2)).astype(np.float32),
    }
    write_deepsense(few.replace(sensors=few.sensors | more, slot=few.slot + (few.slot > 2)), tmp_path / "Scenario8")
    frames = [*read_frames(tmp_path / "Scenario8", SHAPES)]
    drives = with_masks(read_deepsense(tmp_path, sensors=("lidar", "radar", "doppler", "camera", "gps")), 96)
    expected = dict(drives.sensors)
    expected["masks"] = np.unpackbits(expected["masks"], axis=-1)
    for number, frame in enumerate(frames):
        assert frame.follows == (number not in (0, 3)) and not frame.fault
        for name, shape in SHAPES.items():
            assert frame.sensors[name].shape == shape
            np.testing.assert_allclose(frame.sensors[name], expected[name][number], rtol=1e-5, atol=1e-5)
    assert [frame.name for frame in frames] == ["1", "2", "3", "5", "6"]


def test_only_columns_of_sensors_are_needed(scenario, drives):
    rows = (scenario / "scenario8.csv").read_text().splitlines()
    place = rows[0].split(",").index("unit1_lidar_SCR")
    cells = "".join(row.split(",")[place] + "\n" for row in rows)
    (scenario / "scenario8.csv").write_text(cells)
    frames = [*read_frames(scenario, {"lidar": (216,)})]
    assert [(frame.name, frame.follows) for frame in frames] == [(str(row + 1), row > 0) for row in range(9)]
    np.testing.assert_array_equal([frame.sensors["lidar"] for frame in frames], drives.sensors["lidar"])


def test_a_bad_frame_has_its_fault_and_the_next_one_does_not_follow(scenario):
    (scenario / "unit1" / "lidar_SCR_data" / "Lidar_data_1.mat").write_bytes(b"no scan")
    frames = [*read_frames(scenario, {"lidar": (216,)})]
    assert frames[1].sensors is None and "line 3 (index 2)" in frames[1].fault
    assert [frame.follows for frame in frames if not frame.fault] == [False, False, True, True, False, True, True, True]


@pytest.mark.parametrize("shapes", [{"lidar": (100,)}, {"gps": (3,)}, {"sonar": (4,)}, {"power": (64,)}], ids=str)
def test_what_no_file_holds_is_refused(shapes, scenario):
    with pytest.raises(InputError, match="sensors: "):
        read_frames(scenario, shapes)


def test_a_path_that_leaves_the_folder_is_refused_at_once(scenario, edit_csv):
    edit_csv("./unit1/lidar_SCR_data/Lidar_data_5.mat", "../Lidar_data_5.mat")
    with pytest.raises(InputError, match="expected a path inside"):
        read_frames(scenario, {"lidar": (216,)})
