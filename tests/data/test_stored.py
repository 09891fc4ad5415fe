"""Drives kept on disk: what was written is read, all of it or nothing, and windows over it stay on the host."""

import shutil

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


def test_storing_that_stops_midway_leaves_nothing_half_written(tmp_path):
    def broken():
        yield drive(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_drives(tmp_path / "drives", broken())
    assert list(tmp_path.iterdir()) == []


def with_sensors(number, **sensors):
    piece = drive(number)
    return piece.replace(sensors={**piece.sensors, **sensors})


def changed(number, name, change):
    """A drive with one of its arrays changed."""
    piece = drive(number)
    if name in piece.sensors:
        return with_sensors(number, **{name: change(piece.sensors[name])})
    return piece.replace(**{name: change(getattr(piece, name))})


BAD_PIECES = {
    "powers of another type": (
        [drive(0), changed(1, "power", np.float64)],
        "piece 2, power: expected float32 ['frames', 5] as in the first piece, found float64 [9, 5]",
    ),
    "powers in another order of bytes": (
        [drive(0), drive(1), changed(2, "power", lambda power: power.astype(">f4"))],
        "piece 3, power: expected float32 ['frames', 5] as in the first piece, found >f4 [3, 5]",
    ),
    "powers of fewer beams": (
        [drive(0), changed(1, "power", lambda power: power[:, :4])],
        "piece 2, power: expected float32 ['frames', 5] as in the first piece, found float32 [9, 4]",
    ),
    "slots of another type": (
        [drive(0), changed(1, "slot", np.int64)],
        "piece 2, slot: expected int32 ['frames'] as in the first piece, found int64 [9]",
    ),
    "scans of twice the rays": (
        [drive(0), changed(1, "lidar", lambda scan: np.repeat(scan, 2, 1))],
        "piece 2, sensor_lidar: expected float32 ['frames', 6] as in the first piece, found float32 [9, 12]",
    ),
    "images turned": (
        [drive(0), changed(1, "radar", lambda image: image.swapaxes(1, 2))],
        "piece 2, sensor_radar: expected float32 ['frames', 2, 3] as in the first piece, found float32 [9, 3, 2]",
    ),
    "a sensor less": ([drive(0), drive(1).replace(sensors={})], "piece 2: expected ['drive', 'position', 'power', "),
    "a sensor more": (
        [drive(0), with_sensors(1, sonar=np.zeros(9))],
        "piece 2: expected ['drive', 'position', 'power', 'sensor_lidar', 'sensor_radar', 'slot'] as in the first "
        "piece, found ['drive', 'position', 'power', 'sensor_lidar', 'sensor_radar', 'sensor_sonar', 'slot']",
    ),
    "fewer scans than slots": (
        [drive(0), changed(1, "lidar", lambda scan: scan[:-1])],
        "piece 2, sensor_lidar: expected 9 frames as in slot, found [8, 6]",
    ),
    "fewer scans in one piece, more in the next": (
        [changed(0, "lidar", lambda scan: scan[:-1]), changed(1, "lidar", lambda scan: np.repeat(scan, 2, 0)[:10])],
        "piece 1, sensor_lidar: expected 12 frames as in slot, found [11, 6]",
    ),
    "no power": ([drive(0).replace(power=None)], "piece 1, power: expected 12 frames as in slot, found []"),
    "powers that are objects": (
        [changed(0, "power", lambda power: power.astype(object))],
        "piece 1, power: expected numbers that .npy files can hold, found object",
    ),
    "powers in bfloat16": (
        [changed(0, "power", lambda power: jnp.asarray(power, jnp.bfloat16))],
        "piece 1, power: expected numbers that .npy files can hold, found bfloat16",
    ),
    "no piece": ([], "pieces: expected drives with a frame or more, found none"),
    "no frame": (
        [jax.tree.map(lambda array: array[:0], drive(0))] * 2,
        "pieces: expected drives with a frame or more, found none",
    ),
}


@pytest.mark.parametrize("fault", BAD_PIECES)
def test_pieces_that_do_not_fit_are_refused_in_one_line_and_leave_what_was_there(stored, whole, tmp_path, fault):
    pieces, said = BAD_PIECES[fault]
    for folder in ("new", "drives"):
        with pytest.raises(InputError) as caught:
            store_drives(tmp_path / folder, iter(pieces))
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["drives"]
    jax.tree.map(np.testing.assert_array_equal, open_drives(tmp_path / "drives"), whole)


def test_pieces_without_a_frame_among_others_change_nothing(whole, tmp_path):
    none = jax.tree.map(lambda array: array[:0], drive(0))
    pieces = [none, *map(drive, range(len(LENGTHS))), none]
    jax.tree.map(np.testing.assert_array_equal, store_drives(tmp_path / "drives", pieces), whole)


@pytest.mark.parametrize("left", ["drives", "drives.writing"])
def test_what_cannot_be_removed_is_an_error_that_names_it(stored, tmp_path, monkeypatch, left):
    remove = shutil.rmtree

    def stuck(path, *args, **options):
        if path.name == left and not options.get("ignore_errors"):
            raise PermissionError(13, "Permission denied", str(path))
        if path.name != left:
            remove(path, *args, **options)

    (tmp_path / "drives.writing").mkdir()
    monkeypatch.setattr(shutil, "rmtree", stuck)
    with pytest.raises(InputError, match="Permission denied") as caught:
        store_drives(tmp_path / "drives", [drive(0)])
    assert str(tmp_path / left) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["folder", "folder/drives", "folder/drives.writing"])
def test_a_file_in_the_way_is_refused_and_left_alone(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("all of it")
    with pytest.raises(InputError) as caught:
        store_drives(tmp_path / "folder" / "drives", [drive(0)])
    assert str(tmp_path / "folder") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_text() == "all of it"
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


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
