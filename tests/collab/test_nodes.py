"""Whose windows are whose."""

import numpy as np
import pytest

from beamkd.base import InputError, Rows
from beamkd.collab import by_dirichlet, by_drive, by_place, by_segment, share_out
from tests.collab.federations import dataset_of


@pytest.fixture(scope="module")
def dataset():
    return dataset_of(drives=16)


def parts_of(dataset, partition, nodes):
    train = dataset.split.train
    found = share_out([3, 4], partition, dataset.windows, train, nodes)
    assert found.index.shape == found.mask.shape == (2, nodes, found.mask.shape[2])
    index, mask = np.asarray(found.index), np.asarray(found.mask)
    parts = [[index[seed, node][mask[seed, node]] for node in range(nodes)] for seed in range(2)]
    for part, own, there in zip(parts, np.asarray(train.index), np.asarray(train.mask), strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate(part)), np.sort(own[there]))
    return parts


def beams_of(dataset, rows):
    windows = dataset.windows
    return np.asarray(windows.frames.beam)[np.asarray(windows.predicted)[rows, 0]]


def test_drives_are_dealt_out_whole(dataset):
    drive = np.asarray(dataset.windows.drive)
    for parts in parts_of(dataset, by_drive, 3):
        drives = [set(drive[part]) for part in parts]
        assert not set.intersection(*drives) and {len(each) for each in drives} == {3}  # 9 to train on


def test_nodes_take_places_in_turn_and_have_drives_of_their_own_there(dataset):
    drive, place = np.asarray(dataset.windows.drive), np.arange(17) > 8  # drives are numbered from 1
    for parts in parts_of(dataset, by_place(place.astype(int)), 3):
        assert [{bool(here) for here in place[drive[part]]} for part in parts] == [{False}, {True}, {False}]
        assert not set(drive[parts[0]]) & set(drive[parts[2]])


def test_segments_are_neighbouring_beams_of_as_many_windows(dataset):
    for parts in parts_of(dataset, by_segment, 4):
        beams = [beams_of(dataset, part) for part in parts]
        assert all(left.max() < right.min() for left, right in zip(beams, beams[1:], strict=False))
        counts = [len(part) for part in parts]
        assert max(counts) < 2 * min(counts)


def test_less_alpha_leaves_nodes_fewer_beams(dataset):
    def most(alpha):
        """Mean over seeds and beams of the greatest share of a node, of beams with many windows."""
        shares = []
        for parts in parts_of(dataset, by_dirichlet(alpha), 3):
            counts = np.stack([np.bincount(beams_of(dataset, part), minlength=64) for part in parts])
            shares.append((counts.max(0) / counts.sum(0).clip(1))[counts.sum(0) >= 5].mean())
        return np.mean(shares)

    assert most(100.0) < 0.55 < most(1.0) < 0.8 < most(0.05)


def test_what_leaves_a_node_without_windows_is_refused(dataset):
    with pytest.raises(InputError, match="^--nodes: expected at most the 9 drives, found 10$"):
        share_out([0, 1], by_drive, dataset.windows, dataset.split.train, 10)
    few = Rows(dataset.split.train.index[:, :2], dataset.split.train.mask[:, :2])
    with pytest.raises(InputError, match="^--nodes: expected windows for each of 5, found none for number"):
        share_out([0, 1], by_segment, dataset.windows, few, 5)
    with pytest.raises(InputError, match="^--alpha-dirichlet: expected a finite number of more than 0, found -1.0$"):
        by_dirichlet(-1.0)
    with pytest.raises(InputError, match="^--partition place: expected several folders, .*, found a single place$"):
        by_place(np.zeros(17, int))
    with pytest.raises(InputError, match="^--nodes: expected 2 or more, as many as there are places, found 1$"):
        share_out([0, 1], by_place(np.arange(17) % 2), dataset.windows, dataset.split.train, 1)
    with pytest.raises(InputError, match="^--nodes: expected 1 or more, found 0$"):
        share_out([0, 1], by_drive, dataset.windows, dataset.split.train, 0)
