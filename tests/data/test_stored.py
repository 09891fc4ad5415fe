"""Drives kept on disk: what was written is read, all of it or nothing, and windows over it stay on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Drives, InputError, Rows
from beamkd.data import gather, make_windows, on_host, open_drives, store_drives

LENGTHS = [12, 9, 3, 15, 8, 11, 10, 9, 14, 8, 12, 10]
BEAMS, RAYS = 5, 6


def drive(number):
    rng = np.random.default_rng(number)
    frames = LENGTHS[number]
    return Drives(
        sensors={"lidar": rng.random((frames, RAYS), np.float32), "radar": rng.random((frames, 2, 3), np.float32)},
        power=rng.random((frames, BEAMS), np.float32),
        position=rng.random((frames, 2), np.float32),
        drive=np.full(frames, number, np.int32),
        slot=np.arange(frames, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def whole():
    return jax.tree.map(lambda *parts: np.concatenate(parts), *map(drive, range(len(LENGTHS))))


@pytest.fixture
def stored(tmp_path):
    return store_drives(tmp_path / "drives", map(drive, range(len(LENGTHS))))


def test_pieces_are_read_back_as_one_memory_mapped_whole(stored, whole, tmp_path):
    for found in (stored, open_drives(tmp_path / "drives")):
        assert jax.tree.structure(found) == jax.tree.structure(whole)
        for array, expected in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
            assert isinstance(array, np.memmap)
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["drives"]


def test_arrays_on_a_device_are_stored_too(whole, tmp_path):
    found = store_drives(tmp_path / "drives", [jax.tree.map(jnp.asarray, whole)])
    jax.tree.map(np.testing.assert_array_equal, found, whole)


def test_storing_that_stops_midway_leaves_what_was_there_before(stored, whole, tmp_path):
    def broken():
        yield drive(0)
        raise KeyboardInterrupt

    for folder in ("new", "drives"):
        with pytest.raises(KeyboardInterrupt):
            store_drives(tmp_path / folder, broken())
    assert not (tmp_path / "new").exists()
    jax.tree.map(np.testing.assert_array_equal, open_drives(tmp_path / "drives"), whole)
    jax.tree.map(np.testing.assert_array_equal, store_drives(tmp_path / "new", [drive(0)]), drive(0))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("power", "missing"),
        ("power", "truncated"),
        ("sensor_lidar", "truncated"),
        ("slot", "emptied"),
        ("sensor_lidar", "no array"),
        ("position", "fewer frames"),
        ("sensor_radar", "fewer frames"),
    ],
)
def test_damaged_files_are_an_error_that_names_the_file(tmp_path, name, damage):
    store_drives(tmp_path / "drives", [drive(0), drive(1)])
    path = tmp_path / "drives" / f"{name}.npy"
    contents = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "fewer frames":
        np.save(path, np.load(path)[:-1])
    else:
        path.write_bytes({"truncated": contents[:-4], "emptied": b"", "no array": b"drives"}[damage])
    with pytest.raises(InputError) as caught:
        open_drives(tmp_path / "drives")
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_windows_over_stored_drives_stay_on_the_host_and_are_the_same(stored, whole):
    host, device = make_windows(stored), make_windows(whole)
    assert on_host(host) and not on_host(device)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(host))
    assert all(isinstance(leaf, np.memmap) for leaf in jax.tree.leaves(host.frames))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(device))
    for found, expected in zip(jax.tree.leaves(host), jax.tree.leaves(device), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_batches_gathered_on_the_host_are_those_of_the_device(stored, whole):
    host, device = make_windows(stored), make_windows(whole)
    count = len(device)
    index = np.array([[0, count - 1, 7], [7, 7, 3]])
    mask = np.array([[True, True, False], [True, True, True]])
    found = gather(host, Rows(index, mask))
    expected = jax.vmap(gather, (None, 0))(device, Rows(jnp.asarray(index), jnp.asarray(mask)))
    assert found.sensors["radar"].shape == (2, 3, 8, 2, 3)
    assert (found.labels[0, 1] < 0).any(), "a window at the end of a drive lacks labels"
    for array, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert type(array) is np.ndarray
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted)
