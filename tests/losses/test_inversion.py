"""Losses of generators, of whole batches: by hand, against NumPy in float64, and central differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from beamkd.losses import activation, entropy, layer_statistics, metadata


def normal(*shape):
    return np.random.default_rng(2).normal(0, 2, shape).astype(np.float32)


def statistics_error(features, mean, variance):
    return ((features.mean(0) - mean) ** 2).mean() + ((features.var(0, ddof=1) - variance) ** 2).mean()


def negative_entropy(logits):
    mean = softmax(np.asarray(logits, np.float64), axis=-1).reshape(-1, logits.shape[-1]).mean(0)
    return (mean * np.log(mean)).sum()


def test_metadata_by_hand_takes_the_unbiased_variance():
    # Means 1 and 4; variances 2 and 8 (1 and 4 if they were biased).
    features = jnp.array([[0.0, 2.0], [2.0, 6.0]])
    found = metadata(features, jnp.array([0.0, 4.0]), jnp.array([2.0, 5.0]))
    np.testing.assert_allclose(found, 1 / 2 + 9 / 2, rtol=1e-6)


def test_metadata_is_zero_for_a_batch_of_just_these_statistics():
    features = normal(7, 3)
    found = metadata(features, jnp.array(features.mean(0)), jnp.array(features.var(0, ddof=1)))
    np.testing.assert_allclose(found, 0, atol=1e-10)


def test_metadata_and_its_gradient_agree_with_numpy(slope):
    features, (mean, variance) = normal(5, 3), np.abs(normal(2, 3))
    found, gradient = jax.jit(jax.value_and_grad(metadata))(features, mean, variance)
    np.testing.assert_allclose(found, statistics_error(features.astype(np.float64), mean, variance), rtol=1e-5)
    expected = slope(lambda features: statistics_error(features, mean, variance), features)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "shapes",
    [[(1, 3), (3,), (3,)], [(5, 3), (3,), (4,)], [(5, 3), (1, 3), (3,)], [(5, 2, 3), (3,), (3,)]],
    ids=["one example has no variance", "other features", "rank of mean", "rank of features"],
)
def test_metadata_refuses_shapes_that_do_not_fit(shapes):
    with pytest.raises(AssertionError):
        metadata(*map(jnp.zeros, shapes))


def relative_error(values, mean, variance):
    least = 1e-6 * variance.mean()
    spread, found = np.sqrt(variance + least), np.sqrt(values.var(0, ddof=1) + least)
    return (((values.mean(0) - mean) / spread) ** 2 + ((found - spread) / spread) ** 2).mean()


def test_layer_statistics_by_hand_are_relative_to_the_spread():
    # Means 1 and 40, standard deviations √2 and 10√2: off by half a spread, and by the double in spread.
    values = jnp.array([[0.0, 30.0], [2.0, 50.0]])
    mean = jnp.array([1 - np.sqrt(2) / 2, 40.0])
    found = layer_statistics(values, mean, jnp.array([2.0, 50.0]))
    np.testing.assert_allclose(found, (0.25 + 1.0) / 2, rtol=1e-4)


def test_layer_statistics_and_their_gradient_agree_with_numpy_at_every_step(slope):
    values, (mean, variance) = normal(5, 2, 3), np.abs(normal(2, 2, 3))
    found, gradient = jax.jit(jax.value_and_grad(layer_statistics))(values, mean, variance)
    np.testing.assert_allclose(found, relative_error(values.astype(np.float64), mean, variance), rtol=1e-5)
    expected = slope(lambda values: relative_error(values, mean, variance), values)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variance", [np.zeros(3), np.array([1.0, 0.0, 0.0])], ids=["all", "some"])
def test_layer_statistics_of_units_that_never_change_are_finite(variance):
    values = jnp.ones((4, 3))
    loss = jax.value_and_grad(lambda values: layer_statistics(values, jnp.ones(3), jnp.asarray(variance, jnp.float32)))
    value, gradient = loss(values)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_layer_statistics_refuse_other_shapes():
    with pytest.raises(AssertionError):
        layer_statistics(jnp.zeros((4, 2, 3)), jnp.zeros(3), jnp.zeros(3))
    with pytest.raises(AssertionError):
        layer_statistics(jnp.zeros((1, 3)), jnp.zeros(3), jnp.zeros(3))


def test_activation_by_hand_and_its_gradient_pushes_features_away_from_zero():
    features = jnp.array([[1.0, -3.0], [0.5, 4.0]])
    value, gradient = jax.value_and_grad(activation)(features)
    np.testing.assert_allclose(value, -(4 / 2 + 4.5 / 2) / 2, rtol=1e-6)
    np.testing.assert_allclose(gradient, -np.sign(features) / 4, rtol=1e-6)
    with pytest.raises(AssertionError):
        activation(features[0])


@pytest.mark.parametrize("shape", [(6, 64), (6, 4, 64)])
def test_entropy_of_balanced_beams_is_minus_log_of_their_number(shape):
    np.testing.assert_allclose(entropy(jnp.zeros(shape)), -np.log(64), rtol=1e-6)


def test_entropy_is_of_the_mean_over_batch_and_slots_not_the_mean_of_entropies():
    sure = 1e4 * jnp.eye(4)
    np.testing.assert_allclose(entropy(sure), -np.log(4), rtol=1e-6)
    np.testing.assert_allclose(entropy(sure.reshape(2, 2, 4)), -np.log(4), rtol=1e-6)
    np.testing.assert_allclose(entropy(sure[:2]), -np.log(2), rtol=1e-6)


def test_entropy_is_zero_where_all_examples_have_the_same_sure_beam():
    np.testing.assert_array_equal(entropy(jnp.full((5, 4), -1e4).at[:, 2].set(1e4)), 0)


def test_entropy_and_its_gradient_agree_with_numpy(slope):
    logits = normal(3, 2, 4)
    found, gradient = jax.jit(jax.value_and_grad(entropy))(logits)
    np.testing.assert_allclose(found, negative_entropy(logits), rtol=1e-5)
    np.testing.assert_allclose(gradient, slope(negative_entropy, logits), atol=1e-5)


@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_gradient_of_entropy_is_finite_where_a_beam_has_probability_zero(size):
    value, gradient = jax.value_and_grad(entropy)(jnp.array([[size, -size, 0.0], [size, 0.0, -size]]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_entropy_refuses_logits_of_one_example():
    with pytest.raises(AssertionError):
        entropy(jnp.zeros(4))
