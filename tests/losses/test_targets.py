"""Soft labels and the cross-entropy against them: by hand, and against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from beamkd.losses import cross_entropy, neighbour_targets, power_targets, soft_cross_entropy

RNG = np.random.default_rng(4)
LOGITS = RNG.normal(0, 3, (2, 3, 5)).astype(np.float32)
TARGETS = RNG.dirichlet(np.ones(5), (2, 3)).astype(np.float32)
LABELS = RNG.integers(0, 5, (2, 3))
POWER = RNG.exponential(1e-3, (2, 3, 5)).astype(np.float32)


def soft_loops(logits, targets):
    found = np.zeros(logits.shape[:-1])
    for place in np.ndindex(found.shape):
        for share, probability in zip(targets[place], softmax(logits[place].astype(np.float64)), strict=True):
            found[place] -= share * np.log(probability)
    return found


def neighbour_loops(labels, beams, reach):
    found = np.zeros((*labels.shape, beams))
    for place in np.ndindex(labels.shape):
        if labels[place] >= 0:
            weights = [np.exp(-((beam - labels[place]) ** 2) / (2 * reach**2)) for beam in range(beams)]
            found[place] = np.array(weights) / sum(weights)
    return found


def power_loops(power, exponent):
    found = np.zeros(power.shape)
    for place in np.ndindex(power.shape[:-1]):
        if power[place].any():
            weights = [(float(each) / float(power[place].max())) ** exponent for each in power[place]]
            found[place] = np.array(weights) / sum(weights)
    return found


def test_soft_cross_entropy_by_hand():
    # Probabilities 1/4 and 3/4.
    found = soft_cross_entropy(jnp.array([0.0, np.log(3)]), jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(found, 0.5 * np.log(4) + 0.5 * np.log(4 / 3), rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda loss: loss, jax.jit, jax.vmap])
def test_soft_cross_entropy_and_its_gradient_agree_with_numpy(wrap):
    np.testing.assert_allclose(wrap(soft_cross_entropy)(LOGITS, TARGETS), soft_loops(LOGITS, TARGETS), rtol=1e-5)
    gradient = jax.grad(lambda logits: wrap(soft_cross_entropy)(logits, TARGETS).sum())(LOGITS)
    np.testing.assert_allclose(gradient, softmax(LOGITS, -1) - TARGETS, atol=1e-5)


def test_soft_cross_entropy_of_a_single_beam_is_the_cross_entropy():
    found = soft_cross_entropy(LOGITS, jax.nn.one_hot(LABELS, 5))
    np.testing.assert_allclose(found, cross_entropy(LOGITS, LABELS), rtol=1e-6)


def test_missing_soft_labels_give_no_loss_and_no_gradient():
    targets = TARGETS.copy()
    targets[0] = 0
    values = soft_cross_entropy(LOGITS, targets)
    gradient = jax.grad(lambda logits: soft_cross_entropy(logits, targets).sum())(LOGITS)
    np.testing.assert_array_equal(values[0], 0)
    np.testing.assert_array_equal(gradient[0], 0)
    assert (values[1] > 0).all() and gradient[1].any()


def test_beams_that_the_logits_rule_out_and_that_have_no_share_add_nothing():
    logits, targets = jnp.array([0.0, np.log(3), -jnp.inf]), jnp.array([0.5, 0.5, 0.0])
    value, gradient = jax.value_and_grad(soft_cross_entropy)(logits, targets)
    np.testing.assert_allclose(value, 0.5 * np.log(16 / 3), rtol=1e-6)
    np.testing.assert_allclose(gradient, [-0.25, 0.25, 0], atol=1e-6)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_give_finite_losses_and_gradients(size):
    value, gradient = jax.value_and_grad(soft_cross_entropy)(jnp.array([size, -size]), jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(value, size, rtol=1e-6)
    np.testing.assert_allclose(gradient, [0.5, -0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("logits", "targets"),
    [(jnp.zeros((4, 5)), jnp.zeros(5)), (jnp.zeros((4, 5)), jnp.zeros((4, 6))), (jnp.zeros(5), jnp.zeros(5, int))],
    ids=["would broadcast", "other beams", "integers"],
)
def test_soft_labels_that_do_not_fit_are_refused(logits, targets):
    with pytest.raises(AssertionError):
        soft_cross_entropy(logits, targets)


def test_neighbour_targets_by_hand():
    # With this reach a beam's weight is a half to the power of its distance squared.
    found = neighbour_targets(jnp.array([1, 0]), 3, 1 / np.sqrt(2 * np.log(2)))
    np.testing.assert_allclose(found, [[1 / 4, 1 / 2, 1 / 4], [16 / 25, 8 / 25, 1 / 25]], rtol=1e-5)


@pytest.mark.parametrize("reach", [0.3, 1.0, 4.0])
def test_neighbour_targets_agree_with_numpy_and_are_zero_where_labels_are_missing(reach):
    labels = LABELS.copy()
    labels[0, 0], labels[1, 2] = -1, -100
    found = jax.jit(neighbour_targets, static_argnums=1)(labels, 5, reach)
    np.testing.assert_allclose(found, neighbour_loops(labels, 5, reach), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.sum(-1), labels >= 0, rtol=1e-6)
    np.testing.assert_array_equal(found.argmax(-1), np.maximum(labels, 0))


def test_neighbour_targets_of_the_least_and_the_greatest_reach_are_one_beam_and_all_alike():
    np.testing.assert_array_equal(neighbour_targets(LABELS, 5, 1e-30), jax.nn.one_hot(LABELS, 5))
    np.testing.assert_allclose(neighbour_targets(LABELS, 5, 1e6), 1 / 5, rtol=1e-6)


def test_neighbour_targets_refuse_labels_that_are_no_integers():
    with pytest.raises(AssertionError):
        neighbour_targets(jnp.zeros(3), 5, 1.0)


def test_power_targets_by_hand():
    power = jnp.array([[2.0, 6.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(power_targets(power), [[1 / 4, 3 / 4, 0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(power_targets(power, 2.0), [[1 / 10, 9 / 10, 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("unit", [1.0, 1e-20, 1e20])
def test_power_targets_agree_with_numpy_whatever_the_unit(exponent, unit):
    power = POWER.copy()
    power[0, 1] = 0
    found = jax.jit(power_targets)(power * np.float32(unit), exponent)
    np.testing.assert_allclose(found, power_loops(power, exponent), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.sum(-1), power.any(-1), rtol=1e-6)


def test_power_targets_of_a_large_exponent_are_the_best_beam():
    np.testing.assert_allclose(power_targets(POWER, 1e6), jax.nn.one_hot(POWER.argmax(-1), 5), atol=1e-6)
