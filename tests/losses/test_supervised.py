"""Cross-entropy and focal loss against numbers worked out by hand, SciPy in float64, and central differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from beamkd.losses import cross_entropy, focal

QUARTER = jnp.array([0.0, np.log(3)])
"""Logits of the probabilities 1/4 and 3/4."""


def examples(shape=(2, 3), beams=5, scale=3.0):
    rng = np.random.default_rng(0)
    return rng.normal(0, scale, (*shape, beams)).astype(np.float32), rng.integers(0, beams, shape)


def log_probability(logits, labels):
    table = log_softmax(np.asarray(logits, np.float64), axis=-1)
    return np.take_along_axis(table, labels[..., None], axis=-1)[..., 0]


def test_cross_entropy_is_minus_the_log_of_the_labels_probability():
    np.testing.assert_allclose(cross_entropy(QUARTER, jnp.array(0)), np.log(4), rtol=1e-6)
    np.testing.assert_allclose(cross_entropy(QUARTER, jnp.array(1)), np.log(4 / 3), rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda loss: loss, jax.jit, jax.vmap, lambda loss: jax.vmap(jax.vmap(loss))])
@pytest.mark.parametrize("loss", [cross_entropy, focal])
def test_losses_keep_the_leading_axes_whatever_the_transform(loss, wrap):
    logits, labels = examples()
    expected = -log_probability(logits, labels)
    if loss is focal:
        expected *= -np.expm1(-expected)
        expected *= -np.expm1(log_probability(logits, labels))
    found = wrap(loss)(logits, labels)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_gradient_of_cross_entropy_is_softmax_minus_one_hot():
    logits, labels = examples((4,))
    gradient = jax.grad(lambda logits: cross_entropy(logits, labels).sum())(logits)
    expected = np.exp(log_softmax(logits.astype(np.float64), axis=-1)) - np.eye(5)[labels]
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_focal_loss_weighs_the_log_probability_by_the_remainder_to_the_power_gamma():
    np.testing.assert_allclose(focal(QUARTER, jnp.array(0)), 9 / 16 * np.log(4), rtol=1e-6)
    np.testing.assert_allclose(focal(QUARTER, jnp.array(1)), 1 / 16 * np.log(4 / 3), rtol=1e-6)
    np.testing.assert_allclose(focal(QUARTER, jnp.array(0), gamma=1.0), 3 / 4 * np.log(4), rtol=1e-6)
    np.testing.assert_allclose(focal(QUARTER, jnp.array(0), 0.5), 0.75**0.5 * np.log(4), rtol=1e-6)


def test_focal_loss_with_gamma_zero_is_the_cross_entropy_and_so_is_its_gradient():
    logits, labels = examples()
    labels[0, 0] = -1
    np.testing.assert_allclose(focal(logits, labels, gamma=0.0), cross_entropy(logits, labels), rtol=1e-6)
    found = jax.grad(lambda logits: focal(logits, labels, gamma=0.0).sum())(logits)
    expected = jax.grad(lambda logits: cross_entropy(logits, labels).sum())(logits)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.5])
def test_gradient_of_focal_loss_agrees_with_central_differences(slope, gamma):
    logits, labels = examples((3,), scale=1.0)

    def reference(logits):
        chosen = log_probability(logits, labels)
        return -((1 - np.exp(chosen)) ** gamma * chosen).sum()

    found = jax.grad(lambda logits: focal(logits, labels, gamma).sum())(logits)
    np.testing.assert_allclose(found, slope(reference, logits), atol=1e-5)


def test_focal_loss_of_a_sure_and_right_prediction_does_not_cancel_further():
    logits = jnp.array([12.0, 0.0])
    chosen = np.float64(jax.nn.log_softmax(logits)[0])  # itself off by a percent in float32; 1 - p must not add to it
    np.testing.assert_allclose(focal(logits, jnp.array(0)), np.expm1(chosen) ** 2 * -chosen, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_and_its_gradient_vanish_as_the_probability_goes_to_one(gamma):
    sureness = np.array([5.0, 12.0, 17.0, 20.0, 80.0, 1e4], np.float32)
    logits = jnp.stack([sureness, 0 * sureness], axis=-1)
    labels = jnp.zeros(len(sureness), int)
    values = focal(logits, labels, gamma)
    gradient = jax.grad(lambda logits: focal(logits, labels, gamma).sum())(logits)
    bound = 2 * np.exp(-sureness) + 1e-6
    assert ((values >= 0) & (values <= bound)).all()
    assert (np.abs(gradient).max(-1) <= bound).all()


@pytest.mark.parametrize("loss", [cross_entropy, focal])
@pytest.mark.parametrize("missing", [-1, -100])
def test_missing_labels_give_no_loss_and_no_gradient(loss, missing):
    logits, labels = examples((4,))
    labels[[0, 2]] = missing
    values = loss(logits, labels)
    np.testing.assert_array_equal(values[jnp.array([0, 2])], 0)
    assert (values[jnp.array([1, 3])] > 0).all()
    gradient = jax.grad(lambda logits: loss(logits, labels).sum())(logits)
    np.testing.assert_array_equal(gradient[jnp.array([0, 2])], 0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [cross_entropy, focal])
def test_extreme_logits_give_finite_losses_and_gradients(loss):
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4], [3e30, -3e30]])
    labels = jnp.array([0, 1, 1])
    np.testing.assert_allclose(loss(logits, labels), [0, 2e4, 6e30], rtol=1e-6)
    gradient = jax.grad(lambda logits: loss(logits, labels).sum())(logits)
    # Wrong by far: what is left of the label's probability is 1, and both losses fall by 1 per unit of its logit.
    np.testing.assert_allclose(gradient, [[0, 0], [1, -1], [1, -1]], atol=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, focal])
@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (jnp.zeros((4, 5)), jnp.zeros(3, int)),
        (jnp.zeros((4, 5)), jnp.zeros((4, 5), int)),
        (jnp.zeros((4, 5), int), jnp.zeros(4, int)),
        (jnp.zeros((4, 5)), jnp.zeros(4)),
    ],
    ids=["other batch", "same rank", "integer logits", "float labels"],
)
def test_logits_and_labels_that_do_not_fit_are_refused(loss, logits, labels):
    with pytest.raises(AssertionError):
        loss(logits, labels)
