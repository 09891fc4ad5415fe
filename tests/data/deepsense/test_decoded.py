"""What takes long to decode is kept on disk, as long as nothing that made it has changed."""

import os
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.data import read_deepsense, write_deepsense
from beamkd.data.deepsense import decoded, reader
from beamkd.data.deepsense.columns import DERIVED, Derived

PICTURE = "unit1/camera_data/image_3.jpg"


@pytest.fixture
def folder(drives, tmp_path):
    """A folder with pictures."""
    frames = np.random.default_rng(1).integers(0, 256, (9, 224, 224), np.uint8)
    write_deepsense(drives.replace(sensors={"camera": jnp.asarray(frames)}), tmp_path / "folder")
    return tmp_path / "folder"


@pytest.fixture
def derivations(monkeypatch):
    """Frames that means were taken of so far; means of pictures stand for what takes long."""
    counts = []

    def mean(gray, follows):
        counts.append(len(gray))
        return gray.mean((1, 2), dtype=np.float32)

    monkeypatch.setitem(DERIVED, "masks", Derived("camera", mean))
    return counts


def read(folder, **options):
    return read_deepsense(folder, sensors=("masks",), **options)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def entries(cache):
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_a_second_reading_decodes_nothing_and_is_the_same(folder, cache, derivations):
    first = read(folder)
    assert derivations == [5, 4]
    second = read(folder)
    assert derivations == [5, 4]
    same(first, second)
    assert all(isinstance(array, jnp.ndarray) for array in jax.tree.leaves(second))
    assert len(entries(cache)) == 1 and {path.suffix for path in cache.iterdir()} == {"", ".txt", ".lock"}


def test_lidar_is_not_kept(scenario, cache):
    read_deepsense(scenario)
    assert not cache.exists()


def touched(folder):
    os.utime(folder / PICTURE, ns=(10**18, 10**18))


def table(folder):
    path = folder / "scenario8.csv"
    path.write_text(path.read_text().replace("16-45-00-000", "16-45-00-001"))


def power(folder):
    path = folder / "unit1/mmWave_data/mmWave_power_3.txt"
    path.write_text(path.read_text() + "\n")


CHANGES = {"a file's time": touched, "the table": table, "a power": power}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_folder_is_a_new_reading(folder, cache, derivations, change):
    first = read(folder)
    CHANGES[change](folder)
    same(first, read(folder))
    assert derivations == [5, 4] * 2 and len(entries(cache)) == 2


@pytest.mark.parametrize("options", [{"broadside": 90.0}, {"skip_bad": True}])
def test_what_else_is_asked_for_is_a_new_reading(folder, cache, derivations, options):
    read(folder)
    read(folder, **options)
    assert derivations == [5, 4] * 2


def test_a_change_of_the_code_is_a_new_reading(folder, derivations, monkeypatch, tmp_path):
    read(folder)
    monkeypatch.setattr(decoded, "CODE", (*decoded.CODE, "claims.py"))
    read(folder)
    assert derivations == [5, 4] * 2


def test_all_that_decodes_and_simulates_is_code_that_counts():
    package = decoded.Path(decoded.beamkd.base.__file__).parent
    found = {path.relative_to(package).as_posix() for pattern in decoded.CODE for path in package.glob(pattern)}
    for name in ("sim/radar.py", "sim/camera.py", "sim/track.py", "data/deepsense/pictures.py", "data/geodesy.py"):
        assert name in found


@pytest.mark.parametrize("damage", ["missing", "truncated", "no array", "fewer frames", "lines missing"])
def test_what_is_damaged_is_made_again(folder, cache, derivations, damage):
    first = read(folder)
    (entry,) = entries(cache)
    path = cache / entry / "sensor_masks.npy"
    contents = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "fewer frames":
        np.save(path, np.load(path)[:-1])
    elif damage == "lines missing":
        (cache / f"{entry}.txt").unlink()
    else:
        path.write_bytes({"truncated": contents[:-4], "no array": b"drives"}[damage])
    same(first, read(folder))
    assert derivations == [5, 4] * 2
    same(first, read(folder))
    assert derivations == [5, 4] * 2


def test_a_reading_that_fails_leaves_nothing(folder, cache, derivations):
    (folder / PICTURE).write_bytes(b"none")
    with pytest.raises(InputError, match="index 4"):
        read(folder)
    assert entries(cache) == []


def test_two_at_once_decode_once(folder, derivations, monkeypatch):
    derive = DERIVED["masks"].derive

    def slow(gray, follows):
        time.sleep(0.2)
        return derive(gray, follows)

    monkeypatch.setitem(DERIVED, "masks", Derived("camera", slow))
    found = []
    threads = [threading.Thread(target=lambda: found.append(read(folder))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert derivations == [5, 4]
    same(*found)


def test_those_used_longest_ago_are_removed_first(folder, cache, derivations, monkeypatch):
    frame = 4 * (64 + 1 + 2 + 1 + 1)  # powers, mean, position, drive, slot
    monkeypatch.setattr(decoded, "LARGEST_CACHE", int(2.5 * (9 * frame + 5 * 128)))
    for number, broadside in enumerate((0.0, 10.0, 20.0)):
        read(folder, broadside=broadside)
        for path in cache.iterdir():  # long ago, in this order
            if path.stat().st_mtime > 10**8:
                os.utime(path, (10**6 * (number + 1),) * 2)
        if number == 1:
            read(folder, broadside=0.0)  # used again
    assert len(entries(cache)) == 2
    read(folder, broadside=0.0)
    read(folder, broadside=20.0)
    assert derivations == [5, 4] * 3
    read(folder, broadside=10.0)
    assert derivations == [5, 4] * 4


def test_what_a_process_left_midway_is_removed(folder, cache, derivations):
    for digit in "0123456789abcdef":
        (cache / f"{digit}{'0' * 63}.writing").mkdir(parents=True)
    with decoded._locked(cache / "3.lock"):  # another process is at it, or has the lock that the reading needs
        thread = threading.Thread(target=lambda: read(folder))
        thread.start()
        thread.join(2)
        left = entries(cache)
    thread.join()
    assert f"3{'0' * 63}.writing" in left
    assert len([name for name in entries(cache) if name.endswith(".writing")]) <= 1


def test_a_place_that_cannot_be_written_is_named_with_the_way_out(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be written; XDG_CACHE_HOME") as caught:
        read(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_simulated_sensors_are_kept_too(folder, monkeypatch):
    calls = []

    def sense(names, numbers, position):
        calls.append((names, numbers, len(position)))
        return {"radar": np.zeros((len(position), 2, 2), np.float32)}

    monkeypatch.setattr(reader, "sense_drive", sense)
    for _ in range(2):
        read_deepsense(folder, sensors=("radar",), simulated=("radar",))
    assert calls == [(("radar",), (8, 3, 0), 5), (("radar",), (8, 1, 0), 4)]
