"""Collaborative data-free distillation: a centre that sees no window learns what nodes' models say."""

import jax
import numpy as np
import pytest

from beamkd.collab import Faults, Ledger, run_rounds, size_of
from beamkd.collab.strategies.datafree import datafree
from beamkd.training import FitConfig
from tests.collab.federations import SEEDS, dataset_of, federation_of, keys_of, leaves

SMALL = {
    "sequences": 40,
    "inversion": FitConfig(epochs=2, patience=0, batch_size=4),
    "student": FitConfig(epochs=30, patience=0, batch_size=16, learning_rate=0.03),
}


@pytest.fixture(scope="module")
def dataset():
    return dataset_of()


@pytest.fixture(scope="module")
def taught(dataset):
    """A federation whose last node is broken, its state after the only round, and the messages of that."""
    federation, seen = federation_of(dataset, sizes=(3, 2, 2), faults=Faults(broken=(2,))), []
    strategy = datafree([group.kind for group in federation.groups], **SMALL)
    state = run_rounds(keys_of(), strategy, federation, 1, after=lambda number, state, sent: seen.extend(sent))
    return federation, state, tuple(seen)


def test_models_and_metadata_cross_once_and_no_window(taught):
    _, state, messages = taught
    assert [message.link for message in messages] == ["up", "up"]
    assert all(set(message.arrays) == {"weights", "metadata"} for message in messages)
    ledger = Ledger()
    ledger.add(0, state, messages)
    first, second = (size_of(jax.tree.map(lambda leaf: leaf[0, 0], message.arrays)) for message in messages)
    np.testing.assert_array_equal(ledger.total("up"), [first + 2 * second] * SEEDS)


def test_the_centre_learns_what_nodes_know_and_nothing_of_their_windows(dataset, taught):
    federation, state, _ = taught
    rows = jax.tree.map(lambda leaf: leaf[0], dataset.split.test)
    kind, data = federation.centre.kind, federation.centre.own.data

    def shares(kind, params):
        answer = jax.jit(lambda params, data: jax.nn.softmax(kind.forward(params, kind.take(data, rows), None).logits))
        return np.asarray(answer(params, data))[np.asarray(rows.mask)]

    def first(params):
        return jax.tree.map(lambda leaf: leaf[0], params)

    nodes = zip(federation.groups, state.nodes, strict=True)
    mean = np.mean([shares(group.kind, first(first(own.params))) for group, own in nodes], axis=0)
    before, after = (shares(kind, first(own)) for own in (federation.centre.model.params, state.centre.params))
    assert np.abs(after - mean).mean() < np.abs(before - mean).mean()


def test_a_node_whose_model_is_broken_is_left_out(taught):
    _, state, _ = taught
    np.testing.assert_array_equal(state.refused, [[0, 0, 1]] * SEEDS)
    assert all(np.isfinite(leaf).all() for leaf in leaves(state.centre))
