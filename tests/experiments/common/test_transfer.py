"""From streets to a road: whose windows networks learn from, and that drives of two kinds of windows stay apart."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Rows
from beamkd.data import deal, gather, make_windows
from beamkd.sim import Family, Street, simulate
from experiments.common.transfer import REPLAYED, Transfer, _unpadded, equipped, joined


def windows_of(seed, drives, **changes):
    return make_windows(simulate(jax.random.key(seed), Street(**changes), drives))


@pytest.fixture(scope="module")
def transfer():
    """One whose streets are a few drives along another road."""
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    source = types.SimpleNamespace(keys=keys, dataset=deal(keys, windows_of(0, 10)))
    found = Transfer(source)
    object.__setattr__(found, "_on_streets", deal(keys, windows_of(1, 8, lane=20.0)))
    return found


def test_joined_windows_see_the_same_frames_and_the_second_ones_drives_have_numbers_of_their_own():
    first, second = windows_of(0, 3), windows_of(1, 2, lane=20.0)
    both, count = joined(first, second), len(first)
    assert len(both) == count + len(second)
    for windows, rows in ((first, np.arange(count)), (second, count + np.arange(len(second)))):
        own, found = (
            gather(each, Rows(which, np.ones(len(which), bool)))
            for each, which in ((windows, np.arange(len(windows))), (both, rows))
        )
        jax.tree.map(np.testing.assert_array_equal, own, found)
    assert set(np.unique(both.drive)) == {1, 2, 3, 4, 5} and set(np.asarray(both.drive)[count:]) == {4, 5}


def test_fewer_drives_are_some_of_more_and_all_are_for_training(transfer):
    data = transfer.source.dataset
    drive = np.asarray(data.windows.drive)
    for seed in range(2):
        train = np.asarray(data.split.train.index)[seed][np.asarray(data.split.train.mask)[seed]]
        rows = [_unpadded(transfer._few(count).split.train)[seed] for count in (1, 3, 10)]
        chosen = [set(drive[own]) for own in rows]
        assert [len(drives) for drives in chosen] == [1, 3, 6]  # of ten drives six are for training
        assert chosen[0] < chosen[1] < chosen[2] == set(drive[train])
        assert set(rows[1]) == {row for row in train if drive[row] in chosen[1]}


def test_streets_are_replayed_with_their_training_windows_and_nothing_validates(transfer):
    road, streets = transfer.source.dataset, transfer._on_streets
    mixed = transfer._few_and_streets(3)
    assert mixed.split.val is None and transfer._few(3).split.val is None
    for seed in range(2):
        rows = np.asarray(mixed.split.train.index)[seed][np.asarray(mixed.split.train.mask)[seed]]
        own, others = rows[rows < len(road.windows)], rows[rows >= len(road.windows)] - len(road.windows)
        assert len(others) == REPLAYED * len(own) and set(own) == set(_unpadded(transfer._few(3).split.train)[seed])
        known = np.asarray(streets.split.train.index)[seed][np.asarray(streets.split.train.mask)[seed]]
        assert set(others) <= set(known)
    assert mixed.split.test is road.split.test


def test_ones_own_hardware_is_known_and_roads_are_not():
    street = Street(boresight=3.2, body_offset=(-2.0, 0.5))
    family = equipped(Family(), street)
    drawn = [family.street(number, street) for number in range(20)]
    assert {each.boresight for each in drawn} == {3.2} and {each.body_offset for each in drawn} == {(-2.0, 0.5)}
    assert np.ptp([each.lane for each in drawn]) > 10
    assert dataclasses.replace(family, lane=(9, 9)).street(3, street).lane == 9
