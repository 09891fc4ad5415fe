"""Scans that appear in a folder, as `follow` gives them."""

import itertools
import os

import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.data.deepsense.files import write_scan
from experiments.common import scans
from experiments.common.scans import Stop, follow

SCAN = np.arange(216, dtype=np.float32)


@pytest.fixture
def following(tmp_path, monkeypatch):
    """following(write, count) gives so many scans; before each look into the folder, write(number of the look)."""
    monkeypatch.setattr(scans, "SETTLED", 0.05)

    def following(write, count, sensor="lidar", shape=(216,)):
        looks = itertools.count()
        monkeypatch.setattr(scans.time, "sleep", lambda seconds: write(next(looks)))
        found = follow(tmp_path, sensor, shape, Stop())
        return [next(found) for _ in range(count)]

    return following


def names(found):
    return [(scan.name, bool(scan.fault)) for scan in found]


def test_files_come_in_the_order_of_their_numbers(following, tmp_path):
    def write(look):
        if look == 0:
            for number in (10, 9, 200, 11):
                np.save(tmp_path / f"scan_{number}.npy", SCAN + number)
            (tmp_path / "scan_8.txt").write_text("no scan")
            np.save(tmp_path / ".scan_12.npy", SCAN)

    found = following(write, 4)
    assert names(found) == [(f"scan_{number}.npy", False) for number in (9, 10, 11, 200)]
    np.testing.assert_array_equal(found[3].sensors["lidar"], SCAN + 200)
    assert all(scan.follows for scan in found)


def test_files_of_deepsense_are_read(following, tmp_path):
    write_scan(tmp_path / "Lidar_data_1.mat", SCAN)
    (scan,) = following(lambda look: None, 1)
    np.testing.assert_array_equal(scan.sensors["lidar"], SCAN)


def test_a_file_that_grows_is_waited_for_and_one_that_does_not_is_damaged(following, tmp_path):
    np.save(tmp_path / "whole.npy", SCAN)
    contents = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "scan_1.npy").write_bytes(contents[:100])
    (tmp_path / "scan_2.npy").write_bytes(contents[:200])
    os.rename(tmp_path / "whole.npy", tmp_path / "scan_3.npy")

    def write(look):
        (tmp_path / "scan_1.npy").write_bytes(contents[: 100 + 10 * look])

    found = following(write, 3)
    assert names(found) == [("scan_1.npy", False), ("scan_2.npy", True), ("scan_3.npy", False)]


def test_one_that_grows_for_ever_is_damaged(following, tmp_path, monkeypatch):
    monkeypatch.setattr(scans, "PATIENCE", 0.1)
    found = following(lambda look: (tmp_path / "scan_1.npy").write_bytes(bytes(look + 1)), 1)
    assert names(found) == [("scan_1.npy", True)]


def test_late_and_missing_files_are_named_once(following, tmp_path):
    def write(look):
        later = {0: ("a_3", "a_4", "a_7"), 4: ("a_5", "a_8"), 8: ("a_1", "b_100"), 12: ("b_250", "a_9", "b_260")}
        for name in later.get(look, ()):
            np.save(tmp_path / f"{name}.npy", SCAN)

    found = following(write, 11)
    said = {scan.name.removesuffix(".npy"): scan.fault for scan in found}
    assert [*said] == ["a_3", "a_4", "a_5", "a_6", "a_7", "a_8", "a_1", "b_100", "a_9", "b_250", "b_260"]
    assert said["a_5"] == "expected before 'a_7.npy', found nothing"  # it comes in the end, too late to be said again
    assert said["a_1"] == "expected before 'a_8.npy', found late"
    assert said["a_9"] == "expected before 'b_100.npy', found late"
    assert [name for name, fault in said.items() if fault] == ["a_5", "a_6", "a_1", "a_9"]


def test_what_is_kept_does_not_grow():
    order = scans._Order()
    for number in range(3 * scans.REMEMBERED):
        assert order.is_new(f"scan_{number}.npy")
        order.add(f"scan_{number}.npy")
    assert len(order._names) == len(order._latest) == scans.REMEMBERED
    assert not any(order.is_new(f"scan_{number}.npy") for number in range(3 * scans.REMEMBERED))


DAMAGED = {
    "infinite": (np.full(216, np.inf, np.float32), "finite and not negative, found inf as number 1"),
    "negative": (-SCAN, "found -1.0 as number 2"),
    "short": (SCAN[:100], "expected numbers [216], found float32 [100]"),
    "text": (np.array(["a"] * 216), "expected numbers [216], found str32 [216]"),
    "objects": (np.array([None] * 216), "expected numbers [216], found object [216]"),
    "empty": (b"", "found 0 bytes"),
    "of another version": (b"\x93NUMPY\x07\x00" + bytes(300), "expected a .npy of numbers"),
    "large": (bytes(2**20), "expected a file of 1 to"),
    "a link": ("/etc/hostname", "a link that leaves it"),
    "a folder": (None, "expected a file, found something else"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named_with_the_reason(kind, following, tmp_path):
    contents, expected = DAMAGED[kind]
    path = tmp_path / "scan_1.npy"
    if isinstance(contents, np.ndarray):
        np.save(path, contents)
    elif isinstance(contents, bytes):
        path.write_bytes(contents)
    elif contents:
        path.symlink_to(contents)
    else:
        path.mkdir()
    (scan,) = following(lambda look: None, 1)
    assert scan.sensors is None and expected in scan.fault


def test_other_sensors_are_taken_as_arrays(following, tmp_path):
    np.save(tmp_path / "map_1.npy", np.ones((4, 3)))
    np.save(tmp_path / "map_2.npy", np.full((4, 3), np.nan))
    found = following(lambda look: None, 2, "radar", (4, 3))
    assert names(found) == [("map_1.npy", False), ("map_2.npy", True)]
    assert found[0].sensors["radar"].shape == (4, 3)


def test_a_folder_that_is_gone_is_refused(following, tmp_path):
    with pytest.raises(InputError, match="expected a folder of scans"):
        following(lambda look: os.rmdir(tmp_path), 1)
