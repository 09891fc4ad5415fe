"""Weights that match an owner's moments, against the densities that normal distributions have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from beamkd.base import Metadata
from beamkd.reweighting import effective, matching_weights, resample

MEAN, SPREAD = np.array([0.5, 0.0, -0.2]), np.array([0.7, 1.0, 1.1])
OWNER = {
    "one": Metadata(jnp.array(MEAN[:2], jnp.float32), jnp.array(SPREAD[:2] ** 2, jnp.float32)),
    "other": Metadata(jnp.array(MEAN[2:], jnp.float32), jnp.array(SPREAD[2:] ** 2, jnp.float32)),
}


@pytest.fixture(scope="module")
def values():
    """Twenty thousand draws of three independent standard normal units."""
    return np.asarray(jax.random.normal(jax.random.key(0), (20000, 3)))


def weights_of(values, ridge):
    layers = {"one": values[:, :2], "other": values[:, 2:], "unknown to the owner": values}
    weights, losses = jax.jit(matching_weights)(layers, OWNER, ridge)
    return np.asarray(weights, np.float64), np.asarray(losses)


def test_weighted_moments_are_the_owners_and_weights_the_ratio_of_densities(values):
    weights, losses = weights_of(values, 1e-4)
    mean = weights @ values
    np.testing.assert_allclose(mean, MEAN, atol=0.02)
    np.testing.assert_allclose(weights @ np.square(values - mean), SPREAD**2, atol=0.03)
    ratio = (stats.norm.logpdf(values, MEAN, SPREAD) - stats.norm.logpdf(values)).sum(1)
    near = (np.abs((values - MEAN) / SPREAD) < 3).all(1)  # those farther off count as four deviations away
    assert np.corrcoef(np.log(weights[near]), ratio[near])[0, 1] > 0.999
    assert (np.diff(losses) <= 1e-4).all() and losses[-1] < -0.1


def test_the_ridge_keeps_weights_equal(values):
    counts = [effective(jnp.asarray(weights_of(values, ridge)[0])) / len(values) for ridge in (1e-4, 1.0, 1e4)]
    assert 0.1 < counts[0] < counts[1] < counts[2] and counts[2] > 0.999


def test_what_is_far_from_the_owners_counts_for_little(values):
    strange = values.copy()
    strange[:100] = 50
    weights, _ = weights_of(strange, 1e-4)
    assert weights[:100].max() < 0.3 / len(values)


def test_each_index_is_drawn_as_often_as_it_is_due_but_for_one():
    weights = np.random.default_rng(0).dirichlet(np.ones(50))
    chosen = np.asarray(resample(jax.random.key(0), jnp.asarray(weights, jnp.float32), 1000))
    assert np.abs(np.bincount(chosen, minlength=50) - 1000 * weights).max() < 1.01
