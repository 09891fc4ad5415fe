"""Nodes that fail: what of them arrives, and that it poisons nobody."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.collab import STRATEGIES, Faults, run_rounds
from tests.collab.federations import SEEDS, dataset_of, federation_of, keys_of, leaves

NODES = 3


@pytest.fixture(scope="module")
def dataset():
    return dataset_of()


def test_nodes_drop_out_and_join_late_and_one_always_stays():
    faults = Faults(drop=0.9, late=((0, 4),))
    active = faults.active(keys_of(), NODES)
    rounds = np.stack([active(number) for number in range(60)])
    assert rounds.shape == (60, SEEDS, NODES)
    assert rounds.any(-1).all() and not rounds[:4, :, 0].any() and rounds[4:, :, 0].any()
    assert 0.3 < rounds[4:].mean() < 0.5  # one of three at least
    np.testing.assert_array_equal(active(7), active(7))
    assert np.asarray(Faults().active(keys_of(), NODES)(0)).all()


def test_what_arrives_is_what_the_fault_says():
    says = {"logits": jnp.ones((SEEDS, 3, 50)), "windows": jnp.full((SEEDS, 3), 7)}
    before = jax.tree.map(lambda leaf: 0 * leaf, says)
    faults = Faults(lag=(5,), broken=(6,), hostile=(7,))  # of a group whose first node has the number 5
    found = faults.said(keys_of(), says, before, 5)
    np.testing.assert_array_equal(found["windows"], np.tile([0, 7, 7], (SEEDS, 1)))
    assert (found["logits"][:, 0] == 0).all() and np.isnan(found["logits"][:, 1]).all()
    assert (found["logits"][:, 2] == -10).all()
    noise = np.asarray(Faults(garbage=(5,)).said(keys_of(), says, None, 5)["logits"])
    assert 80 < noise[:, 0].std() < 120 and (noise[:, 1:] == 1).all() and (noise[0, 0] != noise[1, 0]).all()


@pytest.mark.parametrize("name", ["fedavg", "mutual"])
def test_a_broken_node_is_named_and_poisons_nobody(dataset, name):
    federation = federation_of(dataset, sizes=(3, 3), faults=Faults(broken=(1,)))
    state = run_rounds(keys_of(), STRATEGIES[name](federation), federation, 2)
    assert all(np.isfinite(leaf).all() for leaf in [*leaves(state.nodes), *leaves(state.centre)])
    np.testing.assert_array_equal(state.refused, [[0, 2]] * SEEDS)


def test_a_node_that_lags_says_what_it_found_a_round_ago(dataset):
    federation, seen = federation_of(dataset, faults=Faults(lag=(1,))), []
    strategy = STRATEGIES["feddf"](federation)
    state = run_rounds(keys_of(), strategy, federation, 2, after=lambda number, state, sent: seen.extend(sent))
    np.testing.assert_array_equal(state.stale, [[0, 1]] * SEEDS)  # in the first round there is none before
    first, second = (np.asarray(message.arrays["logits"]) for message in seen if message.link == "up")
    np.testing.assert_array_equal(second[:, 1], first[:, 1])
    assert (second[:, 0] != first[:, 0]).any()


def test_a_hostile_node_is_named(dataset):
    federation = federation_of(dataset, sizes=(3, 3, 3, 2), faults=Faults(hostile=(1,)))
    state = run_rounds(keys_of(), STRATEGIES["fedmd"](federation), federation, 2)
    np.testing.assert_array_equal(state.suspected, [[0, 2, 0, 0]] * SEEDS)
    assert not np.asarray(state.refused).any()


def test_other_probabilities_are_refused():
    with pytest.raises(InputError, match="^faults: expected a probability to drop out of 0 or more and less than 1"):
        Faults(drop=1.0)
