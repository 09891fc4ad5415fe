"""The drives that a run keeps to be watched, against the dataset and what its networks say."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from beamkd.base import Drives
from beamkd.data import deal, forward_of, gather, initial_model, make_windows
from beamkd.models import GruStudent, GruTeacher
from beamkd.report.watch import page, read_drives
from beamkd.sim.radar import TESTBED
from beamkd.training import all_rows
from experiments.common import watch
from experiments.common.folder import WATCH
from experiments.common.trackers import most_likely
from experiments.common.watch import keep_drives, levels

CELL = TESTBED.range_cell
FRAMES = (20, 12, 30, 17, 9, 25, 21, 26)


@pytest.fixture(scope="module")
def dataset():
    """Eight drives of made-up frames, dealt out for two seeds; on radar maps the car alone is seen."""
    rng = np.random.default_rng(0)
    number, count = np.repeat(np.arange(8), FRAMES), sum(FRAMES)
    along = np.concatenate([np.linspace(7, -7, frames) for frames in FRAMES])
    position = np.stack([9 + rng.random(count), along], -1).astype(np.float32)
    distance, azimuth = np.hypot(*position.T), np.rad2deg(np.arctan2(along, position[:, 0]))
    radar = np.full((count, 256, 64), 1e-3, np.float32)
    radar[np.arange(count), (distance / CELL).astype(int), np.round(32 * along / distance).astype(int) % 64] = 5
    sensors = {
        "lidar": rng.uniform(0, 12, (count, 216)).astype(np.float32),
        "radar": radar,
        "doppler": rng.uniform(1, 2, (count, 128, 64)).astype(np.float32),
        "masks": rng.integers(0, 256, (count, 32, 4), np.uint8),
        "gps": position + 1,
    }
    power = np.exp(-(((azimuth[:, None] - np.linspace(40, -40, 64)) / 5) ** 2)).astype(np.float32)
    slot = np.concatenate([np.arange(frames) for frames in FRAMES])
    drives = Drives(sensors, power, position, number.astype(np.int32), slot.astype(np.int32))
    return deal(jax.random.split(jax.random.key(0)), make_windows(drives))


@pytest.fixture(scope="module")
def models(dataset):
    """Two networks of scans, one of which sees three frames alone, with random weights of each seed."""
    spec, keys = dataset.spec(["lidar"]), jax.random.split(jax.random.key(1))
    short = initial_model(keys, GruStudent(), spec, frames=3)
    return {"teacher": initial_model(keys, GruTeacher(), spec), "short": short}


@pytest.fixture(scope="module")
def kept(dataset, models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    keep_drives(SimpleNamespace(folder=folder), dataset, models)
    return read_drives(folder / WATCH)


@pytest.fixture(scope="module")
def rows(dataset, kept):
    """Frames of the dataset that were kept."""
    return np.flatnonzero(np.isin(dataset.windows.frames.drive, kept["drive"]))


def test_drives_are_those_of_the_test_split_of_the_first_seed_and_whole(dataset, kept):
    windows, test = dataset.windows, dataset.split.test
    tested = np.unique(np.asarray(windows.drive)[np.asarray(test.index[0])[np.asarray(test.mask[0])]])
    np.testing.assert_array_equal(np.unique(kept["drive"]), tested)
    assert len(kept["drive"]) == np.isin(windows.frames.drive, tested).sum()


def test_what_was_measured_and_sensed_is_kept_as_it_is(dataset, kept, rows):
    frames = dataset.windows.frames
    for name in ("drive", "slot", "position", "power"):
        np.testing.assert_array_equal(kept[name], np.asarray(getattr(frames, name))[rows])
    for name in ("lidar", "masks", "gps"):
        np.testing.assert_array_equal(kept[name], np.asarray(frames.sensors[name])[rows])


def test_a_network_says_what_it_says_of_each_window_alone(dataset, models, kept, rows):
    windows = dataset.windows
    batch = gather(windows, all_rows(len(windows)))
    current = np.asarray(windows.predicted[:, 0])
    assert kept["networks"].tolist() == ["teacher", "short"]
    for network, model in enumerate(models.values()):
        params = jax.tree.map(lambda leaf: leaf[0], model.params)
        logits = np.asarray(forward_of(model)(params, batch).logits[:, -4:], np.float64)
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        for place, row in enumerate(rows):
            beams, found = kept["beams"][network, place], kept["probabilities"][network, place]
            if row not in current:
                assert (beams == -1).all() and (found == 0).all()
                continue
            own = shares[np.flatnonzero(current == row)[0]]
            np.testing.assert_allclose(found, np.take_along_axis(own, beams.astype(int), -1), rtol=1e-4)
            np.testing.assert_allclose(found, -np.sort(-own, -1)[:, :5], rtol=1e-4)


def test_the_likeliest_come_first_and_equal_ones_by_number():
    beams, shares = most_likely(np.log([[0.1, 0.2, 0.3, 0.1, 0.2, 0.05, 0.05]]), 5)
    assert beams.tolist() == [[2, 1, 4, 0, 3]]
    np.testing.assert_allclose(shares, [[0.3, 0.2, 0.2, 0.1, 0.1]])


def test_the_brightest_cell_of_a_radar_map_is_where_the_car_is(kept):
    maps, metres = kept["radar"], float(kept["metres"])
    assert maps.shape[1] <= watch.MAP_ROWS and set(np.unique(maps)) == {0, 255}
    row, column = np.divmod(maps.reshape(len(maps), -1).argmax(-1), 64)
    distance = np.hypot(*kept["position"].T)
    np.testing.assert_allclose((row + 0.5) * metres / maps.shape[1], distance, atol=metres / maps.shape[1])
    np.testing.assert_allclose((column - 32) / 32, kept["position"][:, 1] / distance, atol=0.02)


def test_levels_are_decibels_under_the_strongest_and_rows_the_greatest_of_some(monkeypatch):
    monkeypatch.setattr(watch, "MAP_ROWS", 2)
    maps = np.array([[[1.0], [10.0], [0.0]]])
    assert levels(maps).tolist() == [[[255], [0]]]
    assert levels(np.array([[[10.0], [1.0]]])).tolist() == [[[255], [85]]]  # 20 of 30 dB under it


def test_beams_look_where_cars_are_that_they_reach_best(kept):
    azimuth = np.rad2deg(np.arctan2(*kept["position"].T[::-1]))
    np.testing.assert_allclose(kept["azimuth"][kept["power"].argmax(-1)], azimuth, atol=1)


def test_drives_that_are_too_large_are_cut(dataset, models, monkeypatch):
    monkeypatch.setattr(watch, "MOST_BYTES", 20 * watch._bytes_a_frame(dataset, len(models)))
    drives = watch.longest_drives(dataset, watch._bytes_a_frame(dataset, len(models)))
    assert len(drives.power) == 20 and len(np.unique(drives.drive)) == 1


def test_as_many_of_the_longest_drives_as_fit_are_kept(dataset, monkeypatch):
    every = watch.longest_drives(dataset, 1)
    lengths = np.unique(every.drive, return_counts=True)[1]
    monkeypatch.setattr(watch, "MOST_BYTES", lengths.max())
    assert len(watch.longest_drives(dataset, 1).power) == lengths.max() < len(every.power)


def test_a_page_of_as_much_as_may_be_kept_is_less_than_5_megabytes(dataset, models, kept):
    size, itself = len(page(kept, [*models], "")), 60_000
    counted = len(kept["drive"]) * watch._bytes_a_frame(dataset, len(models))
    assert size < 1.5 * counted + itself  # four letters for three bytes, and JSON
    assert 1.5 * watch.MOST_BYTES + itself < 5_000_000
