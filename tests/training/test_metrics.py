"""Metrics by hand, and against plain loops over examples and slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.training import dba, power_loss_db, power_ratio, top_k

LOGITS = jnp.array(
    [[9.0, 1, 2, 3, 4, 5, 6, 7], [1, 9, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5, 6, 7]]
)
"""Best three beams: 0, 7, 6; 1, 7, 6; 0, 1, 2; 7, 6, 5."""


def random_case(seed=0, examples=40, slots=3, beams=9):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(examples, slots, beams)).astype(np.float32)
    labels = rng.integers(0, beams, (examples, slots))
    labels[rng.random(labels.shape) < 0.3] = -100
    power = rng.random((examples, slots, beams)).astype(np.float32)
    power[labels < 0] = 0
    return logits, labels, power


def loop(score, logits, labels):
    """Mean of score(beams by falling score, example, slot) over the examples that have a label, for each slot."""
    means = []
    for slot in range(labels.shape[1]):
        there = [e for e in range(len(labels)) if labels[e, slot] >= 0]
        means.append(np.mean([score(np.argsort(-logits[e, slot]), e, slot) for e in there]))
    return means


def test_top_k_by_hand():
    labels = jnp.array([0, 6, 3, 5])
    np.testing.assert_allclose(top_k(LOGITS, labels), 1 / 4)
    np.testing.assert_allclose(top_k(LOGITS, labels, 2), 1 / 4)
    np.testing.assert_allclose(top_k(LOGITS, labels, 3), 3 / 4)
    np.testing.assert_allclose(top_k(LOGITS, labels, 4), 1)


def test_dba_by_hand():
    # Distances of the best 1, 2, 3 beams to the label, in fifths, at most 1.
    labels = jnp.array([2, 5, 3, 0])
    nearest = np.array([[2, 2, 2], [4, 2, 1], [3, 2, 1], [5, 5, 5]]) / 5
    np.testing.assert_allclose(dba(LOGITS, labels), 1 - nearest.mean(), rtol=1e-6)
    np.testing.assert_allclose(dba(LOGITS, labels, beams=1), 1 - nearest[:, 0].mean(), rtol=1e-6)


def test_power_by_hand():
    power = jnp.array([[0.5, 1.0, 0, 0, 0, 0, 0.8, 0.4], [1, 10, 0, 0, 0, 0, 0, 0], jnp.zeros(8), jnp.zeros(8)])
    np.testing.assert_allclose(power_ratio(LOGITS, power), (0.5 + 1.0) / 2, rtol=1e-6)
    np.testing.assert_allclose(power_ratio(LOGITS, power, 3), (0.8 + 1.0) / 2, rtol=1e-6)
    np.testing.assert_allclose(power_loss_db(LOGITS, power), 10 * np.log10(2) / 2, rtol=1e-6)
    np.testing.assert_allclose(power_loss_db(LOGITS, power, 3), -10 * np.log10(0.8) / 2, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
def test_metrics_equal_plain_loops_over_what_has_a_label(k):
    logits, labels, power = random_case()

    def reach(best, e, s):
        return np.mean([1 - min(min(abs(b - labels[e, s]) / 5, 1) for b in best[:n]) for n in range(1, k + 1)])

    def ratio(best, e, s):
        return power[e, s, best[:k]].max() / power[e, s].max()

    expected = {
        top_k: loop(lambda best, e, s: labels[e, s] in best[:k], logits, labels),
        dba: loop(reach, logits, labels),
        power_ratio: loop(ratio, logits, labels),
        power_loss_db: loop(lambda *at: -10 * np.log10(ratio(*at)), logits, labels),
    }
    for metric, means in expected.items():
        found = jax.jit(metric, static_argnums=2)(
            logits, power if metric in (power_ratio, power_loss_db) else labels, k
        )
        np.testing.assert_allclose(found, means, rtol=1e-5, err_msg=metric.__name__)


def test_power_does_not_depend_on_the_recordings_unit():
    logits, _, power = random_case()
    np.testing.assert_allclose(power_ratio(logits, power * 1e-12), power_ratio(logits, power), rtol=1e-5)


def test_a_perfect_prediction_scores_one_and_loses_nothing():
    _, labels, power = random_case()
    labels = np.where(labels < 0, labels, power.argmax(-1))
    np.testing.assert_array_equal(top_k(power, labels), 1)
    np.testing.assert_array_equal(dba(power, labels, 1), 1)
    np.testing.assert_array_equal(power_ratio(power, power), 1)
    np.testing.assert_array_equal(power_loss_db(power, power), 0)


@pytest.mark.parametrize("missing", [-1, -100])
def test_a_slot_without_any_label_gives_zero(missing):
    labels = jnp.full((4,), missing)
    assert top_k(LOGITS, labels) == 0
    assert dba(LOGITS, labels) == 0
    assert power_ratio(LOGITS, jnp.zeros((4, 8))) == 0
    assert power_loss_db(LOGITS, jnp.zeros((4, 8))) == 0


@pytest.mark.parametrize("metric", [top_k, dba, power_ratio])
def test_arrays_that_do_not_fit_are_refused(metric):
    other = jnp.zeros((3, 8)) if metric is power_ratio else jnp.zeros(3, int)
    with pytest.raises(AssertionError):
        metric(LOGITS, other)
