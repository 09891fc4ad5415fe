"""Membership tests: by hand, by SciPy and brute force, and that a test of nothing tells nothing."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from beamkd.base import Metadata
from beamkd.membership import SMALL, caught, in_order, nearness


def windows(seed, count=400, drives=10):
    rng = np.random.default_rng(seed)
    drive = rng.integers(drives, size=count)
    return rng, drive, drive < drives // 2


def test_nearness_by_numpy_is_the_mean_over_all_units():
    rng = np.random.default_rng(0)
    layers = {"codes": rng.normal(size=(6, 3, 4)), "features": rng.normal(size=(6, 5))}
    own, other = (
        {
            name: Metadata(rng.normal(size=each.shape[1:]), rng.uniform(0.1, 2, each.shape[1:]))
            for name, each in layers.items()
        }
        for _ in range(2)
    )
    expected = []
    for name, values in layers.items():
        spread = other[name].variance + SMALL**2 * other[name].variance.mean()
        expected.append(((values - other[name].mean) ** 2 - (values - own[name].mean) ** 2) / spread)
    flat = np.concatenate([each.reshape(6, -1) for each in expected], axis=1)
    found = nearness(layers, own, other)
    np.testing.assert_allclose(found, flat.mean(1), rtol=1e-4)
    assert (
        float(
            nearness(
                {"a": jnp.array([[1.0]])},
                {"a": Metadata(jnp.ones(1), jnp.ones(1))},
                {"a": Metadata(jnp.zeros(1), jnp.ones(1))},
            )[0]
        )
        > 0.9
    )  # at the owner's mean: 1


def test_the_area_is_that_of_mann_and_whitney_and_drives_count_as_often_as_they_are_drawn():
    rng, drive, members = windows(1)
    scores = np.round(rng.normal(size=len(drive)) + 0.5 * members, 1)  # with ties
    expected = stats.mannwhitneyu(scores[members], scores[~members]).statistic / (members.sum() * (~members).sum())
    np.testing.assert_allclose(in_order(np.ones((1, 10)), scores, members, drive), expected)
    weights = rng.multinomial(10, np.full(10, 0.1), 5).astype(float)
    for own, found in zip(weights, in_order(weights, scores, members, drive), strict=True):
        again = np.repeat(np.arange(len(drive)), own[drive].astype(int))
        if members[again].any() and not members[again].all():
            one = stats.mannwhitneyu(scores[again][members[again]], scores[again][~members[again]]).statistic
            np.testing.assert_allclose(found, one / (members[again].sum() * (~members[again]).sum()))


def test_members_are_caught_above_the_threshold_that_lets_one_in_a_hundred_others_pass():
    rng, drive, members = windows(2, 1000)
    scores = rng.normal(size=1000) + 1.5 * members
    weights = np.concatenate([np.ones((1, 10)), rng.multinomial(10, np.full(10, 0.1), 5)]).astype(float)
    for own, found in zip(weights, caught(weights, scores, members, drive), strict=True):
        of_window = own[drive]
        # Brute force: the least threshold among the scores of others that few enough exceed.
        passed = [
            score
            for score in scores[~members]
            if of_window[~members][scores[~members] > score].sum() <= 0.01 * of_window[~members].sum()
        ]
        expected = of_window[members][scores[members] > min(passed)].sum() / of_window[members].sum()
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("measure, least, greatest", [(in_order, 0.45, 0.55), (caught, 0.0, 0.03)])
def test_scores_that_do_not_know_members_tell_nothing(measure, least, greatest):
    rng, drive, members = windows(3, 4000)
    assert least <= measure(np.ones((1, 10)), rng.normal(size=4000), members, drive)[0] <= greatest


@pytest.mark.parametrize("measure", [in_order, caught])
def test_without_members_or_others_nothing_can_be_told_and_perfect_scores_tell_all(measure):
    _, drive, members = windows(4)
    alone = np.stack([np.arange(10) < 5, np.arange(10) >= 5]).astype(float)
    assert np.isnan(measure(alone, members.astype(float), members, drive)).all()
    assert measure(np.ones((1, 10)), members.astype(float), members, drive)[0] == 1
