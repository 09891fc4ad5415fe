"""Means of nodes' values against NumPy and SciPy, and what hostile nodes can do to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from beamkd.base import InputError
from beamkd.collab.aggregate import AGGREGATES, finite, geometric_median, krum, mean, median, suspected, trimmed_mean


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return {"a": rng.normal(size=(7, 4, 3)).astype(np.float32), "b": rng.normal(size=(7, 5)).astype(np.float32)}


def test_the_mean_is_weighted(values):
    weights = np.float32([1, 2, 0, 3, 1, 0, 1])
    found = jax.jit(mean)(values, weights)
    for name, leaf in values.items():
        np.testing.assert_allclose(found[name], np.average(leaf, axis=0, weights=weights), rtol=1e-5, atol=1e-6)


def test_the_mean_of_one_node_is_its_value_bit_for_bit(values):
    found = jax.jit(mean)(values, np.float32([0, 0, 37, 0, 0, 0, 0]))
    for name, leaf in values.items():
        np.testing.assert_array_equal(found[name], leaf[2])


@pytest.mark.parametrize("count", [7, 6, 1])
def test_the_median_is_that_of_nodes_that_count(values, count):
    weights = np.zeros(7, np.float32)
    weights[:count] = 1 + np.arange(count)
    found = jax.jit(median)(values, weights)
    for name, leaf in values.items():
        np.testing.assert_allclose(found[name], np.median(leaf[:count], axis=0), rtol=1e-6)


def test_a_trimmed_mean_is_that_of_scipy(values):
    found = jax.jit(trimmed_mean(0.2))(values, np.ones(7, np.float32))
    for name, leaf in values.items():
        np.testing.assert_allclose(found[name], stats.trim_mean(leaf, 0.2, axis=0), rtol=1e-5, atol=1e-6)


def test_the_geometric_median_has_less_distance_to_all_than_mean_or_median(values):
    flat = np.concatenate([leaf.reshape(7, -1) for leaf in values.values()], axis=1)

    def distance(found):
        point = np.concatenate([np.asarray(leaf).ravel() for leaf in found.values()])
        return np.linalg.norm(flat - point, axis=1).sum()

    ones = np.ones(7, np.float32)
    found = {rule: distance(rule(values, ones)) for rule in (mean, median, geometric_median)}
    assert found[geometric_median] < min(found[mean], found[median])


def test_krum_chooses_by_the_distances_to_the_nearest(values):
    flat = np.concatenate([leaf.reshape(7, -1) for leaf in values.values()], axis=1)
    squares = np.square(flat[:, None] - flat).sum(-1)
    score = np.sort(squares, axis=1)[:, 1:4].sum(1)  # 7 − 2 − 2 = 3 nearest, after itself
    found = jax.jit(krum(2))(values, np.ones(7, np.float32))
    np.testing.assert_array_equal(found["b"], values["b"][score.argmin()])


@pytest.mark.parametrize("name", [name for name in AGGREGATES if name != "mean"])
def test_a_hostile_node_moves_nothing_far(values, name):
    hostile = {key: leaf.copy() for key, leaf in values.items()}
    for leaf in hostile.values():
        leaf[4] = 1e3
    ones = np.ones(7, np.float32)
    found = AGGREGATES[name](hostile, ones)
    for key, leaf in found.items():
        others = np.delete(values[key], 4, axis=0)
        assert (leaf >= others.min(0) - 1).all() and (leaf <= others.max(0) + 1).all()


@pytest.mark.parametrize("name", AGGREGATES)
def test_what_a_node_says_that_does_not_count_may_be_anything(values, name):
    weights = np.float32([1, 1, 0, 1, 1, 1, 1])
    garbage = {key: leaf.copy() for key, leaf in values.items()}
    for leaf in garbage.values():
        leaf[2] = np.nan
    np.testing.assert_array_equal(finite(garbage), weights > 0)
    for found, expected in zip(*(AGGREGATES[name](each, weights).values() for each in (garbage, values)), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", AGGREGATES)
def test_without_nodes_all_is_zero(values, name):
    found = AGGREGATES[name](values, jnp.zeros(7))
    assert all((leaf == 0).all() for leaf in found.values())


def test_other_settings_are_refused():
    with pytest.raises(InputError, match="^trimmed mean: expected a share from 0 to 0.5, found 0.7$"):
        trimmed_mean(0.7)
    with pytest.raises(InputError, match="^Krum: expected 0 or more hostile nodes, found -1$"):
        krum(-1)


def test_who_is_far_from_most_is_suspected_and_nobody_else():
    rng = np.random.default_rng(0)
    says = {"logits": rng.normal(size=(3, 6, 2, 5000)).astype(np.float32)}
    says |= {
        "labels": np.arange(36).reshape(3, 6, 2) ** 9,
        "windows": np.float32([[3, 3, 3, 3, 4, 90]] * 3),
        "nothing": np.zeros((3, 6, 0), np.float32),
    }
    says["logits"][0, 2] *= -10  # hostile
    says["logits"][1, 4, 1] = 100  # in a part of what it says
    says["logits"][2] *= np.float32([1, 2, 3, 0.5, 1, 2])[:, None, None]  # as unlike as honest nodes may be
    there = np.ones((3, 6), bool)
    expected = np.zeros((3, 6), bool)
    expected[0, 2] = expected[1, 4] = True
    np.testing.assert_array_equal(suspected(says, there), expected)
    says["logits"][0, 0] = np.nan
    there[0, 0] = False  # says nothing that counts
    np.testing.assert_array_equal(suspected(says, there), expected)
    there[0, 3:5] = False  # three are left, of whom nobody can tell
    assert not suspected(says, there)[0].any()
    assert not suspected({}, there).any()
