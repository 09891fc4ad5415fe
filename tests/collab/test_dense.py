"""DENSE and Co-Boosting: scenes that all nodes' models are asked about together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Output
from beamkd.collab import Faults, run_rounds
from beamkd.collab.strategies import Synthesis, dense
from beamkd.collab.strategies.dense import boosted, logits_of
from tests.collab.federations import SEEDS, dataset_of, federation_of, keys_of, leaves

SMALL = Synthesis(batches=6, batch_size=8, steps=3, passes=6, student_rate=0.03, temperature=1.0, boost=0.1, nudge=0.1)


@pytest.fixture(scope="module")
def dataset():
    return dataset_of()


def test_the_centre_learns_what_all_sound_models_say(dataset):
    federation = federation_of(dataset, sizes=(3, 2, 2), faults=Faults(broken=(2,)))
    strategy = dense([group.kind for group in federation.groups], synthesis=SMALL)
    state = run_rounds(keys_of(), strategy, federation, 1)
    np.testing.assert_array_equal(state.refused, [[0, 0, 1]] * SEEDS)
    assert all(np.isfinite(leaf).all() for leaf in leaves(state.centre))
    rows = jax.tree.map(lambda leaf: leaf[0], dataset.split.test)
    kind, data = federation.centre.kind, federation.centre.own.data

    def shares(kind, params):
        answer = jax.jit(lambda params, data: jax.nn.softmax(kind.forward(params, kind.take(data, rows), None).logits))
        return np.asarray(answer(params, data))[np.asarray(rows.mask)]

    sound = [(group.kind, jax.tree.map(lambda leaf: leaf[0, 0], own.params)) for group, own in pairs(federation, state)]
    mean = np.mean([shares(*each) for each in sound], axis=0)
    before, after = (
        shares(kind, jax.tree.map(lambda leaf: leaf[0], own))
        for own in (federation.centre.model.params, state.centre.params)
    )
    assert np.abs(after - mean).mean() < np.abs(before - mean).mean()


def pairs(federation, state):
    return zip(federation.groups, state.nodes, strict=True)


def outputs(rng, *nodes):
    return [Output(jnp.asarray(rng.normal(size=(count, 5, 4, 8)), jnp.float32), None) for count in nodes]


def test_an_ensemble_says_the_weighted_mean_of_logits():
    found = outputs(np.random.default_rng(0), 2, 1)
    whole = np.concatenate([np.asarray(output.logits) for output in found])
    weights = np.array([1.0, 0.0, 3.0])
    expected = np.tensordot(weights / 4, whole, 1)
    np.testing.assert_allclose(logits_of(found, jnp.asarray(weights, jnp.float32)), expected, rtol=1e-5, atol=1e-6)


def test_a_model_that_names_the_beams_better_counts_more():
    found = outputs(np.random.default_rng(0), 3)
    beams = jnp.arange(5)
    right = found[0].logits.at[1, :, 0].add(5 * jax.nn.one_hot(beams, 8))
    weights = boosted([Output(right, None)], beams, jnp.ones(3), jnp.array([True, True, False]), 0.1)
    np.testing.assert_allclose(weights, [0.9, 1.1, 0.0], atol=1e-6)
