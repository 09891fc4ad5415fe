"""Messages of fewer bits: what arrives is near what was sent, and what crosses is as long as its numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.collab import CODECS, Ledger, run_rounds, size_of
from beamkd.collab.strategies import fedmd
from tests.collab.federations import SEEDS, dataset_of, federation_of, keys_of


def message():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(0, 3, (5, 4, 64)), jnp.float32)
    return {"logits": logits, "weights": jnp.asarray(rng.normal(size=30), jnp.float32), "windows": jnp.arange(5)}


def test_what_crosses_and_arrives():
    sent = message()
    weights = np.asarray(sent["weights"])
    for name, codec in CODECS.items():
        found = codec.crossed(sent)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), sent
        )
        np.testing.assert_array_equal(found["windows"], sent["windows"])
        expected = {
            "float32": weights,
            "float16": weights.astype(np.float16),
            "int8": np.round(weights / np.abs(weights).max() * 127) * np.abs(weights).max() / 127,
            "top": weights.astype(np.float16),
        }[name]
        np.testing.assert_allclose(found["weights"], expected, rtol=1e-6, atol=1e-7)


def test_the_best_beams_arrive_and_the_rest_as_their_mean():
    sent = np.asarray(message()["logits"])
    found = np.asarray(CODECS["top"].crossed({"targets": jnp.asarray(sent)})["targets"])
    for slot, arrived in zip(sent.reshape(-1, 64), found.reshape(-1, 64), strict=True):
        best = np.argsort(slot)[-8:]
        expected = np.full(64, np.delete(slot, best).mean())
        expected[best] = slot[best]
        np.testing.assert_allclose(arrived, expected, rtol=1e-3, atol=1e-3)


def test_numbers_take_as_many_bytes_as_they_should():
    logits = {"logits": jnp.zeros((100, 4, 64))}
    size = {name: size_of(codec.sent(logits)) for name, codec in CODECS.items()}
    assert size["float16"] < 0.51 * size["float32"] and size["int8"] < 0.26 * size["float32"]
    assert 400 * (8 * 2 + 8 + 2) < size["top"] < 400 * (8 * 2 + 8 + 2) + 500


@pytest.mark.parametrize("name", ["int8", "top"])
def test_a_number_that_is_none_does_not_arrive_as_one(name):
    logits = jnp.zeros((2, 64)).at[1, 3].set(jnp.nan)
    assert not np.isfinite(CODECS[name].crossed({"logits": logits})["logits"]).all()


def test_rounds_learn_from_what_arrives_and_count_what_crosses():
    dataset = dataset_of()
    federation, ledger = federation_of(dataset, codec=CODECS["top"]), Ledger()
    state = run_rounds(keys_of(), fedmd(windows=20), federation, 1, after=ledger.add)
    logits = 20 * 4 * (8 * 2 + 8 + 2)
    assert (2 * logits < ledger.total("up")).all() and (ledger.total("up") < 2 * logits + 1000).all()
    targets = np.asarray(state.centre.targets)  # of two nodes, eight beams each; all others have one value
    assert targets.shape == (SEEDS, 20, 4, 64)
    assert all(1 < len(np.unique(slot)) <= 17 for slot in targets.reshape(-1, 64))
