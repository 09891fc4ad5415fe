"""Noise on what leaves a node."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from beamkd.base import InputError
from beamkd.collab import Noise
from tests.collab.federations import SEEDS, dataset_of, federation_of, keys_of


def test_a_message_is_shortened_and_noise_added():
    message = {"a": jnp.full((40, 50), 2.0), "b": jnp.full(3000, -1.0), "count": jnp.arange(3)}
    norm = np.sqrt(4 * 2000 + 3000)
    found = Noise(clip=5.0, multiplier=0.1).added(jax.random.key(0), message)
    np.testing.assert_array_equal(found["count"], [0, 1, 2])
    noise = np.concatenate([np.ravel(found["a"]) - 2 * 5 / norm, np.ravel(found["b"]) + 5 / norm])
    assert abs(noise.mean()) < 0.03 and 0.48 < noise.std() < 0.52
    short = Noise(clip=1e6, multiplier=1e-9).added(jax.random.key(0), message)
    np.testing.assert_allclose(short["a"], message["a"], atol=0.01)


def test_epsilon_is_no_less_than_the_analytic_bound_and_near_it():
    pytest.importorskip("dp_accounting")
    delta, multiplier, rounds = 1e-5, 8.0, 16
    # Gaussian mechanisms compose to one of σ / √rounds (Balle and Wang, ICML 2018); a message changes by 2 C.
    sigma = multiplier / 2 / np.sqrt(rounds)

    def lacking(epsilon):
        left = stats.norm.cdf(0.5 / sigma - epsilon * sigma)
        return left - np.exp(epsilon) * stats.norm.cdf(-0.5 / sigma - epsilon * sigma) - delta

    exact = optimize.brentq(lacking, 0, 50)
    found = Noise(multiplier=multiplier).epsilon(rounds, delta)
    assert exact <= found < 1.15 * exact


def test_nodes_that_hide_what_they_know_say_something_else():
    says = {"logits": jnp.zeros((SEEDS, 2, 50, 64))}
    federation = federation_of(dataset_of(), noise=Noise(clip=2.0, multiplier=0.5))
    found = np.asarray(federation.hidden(federation.keys(keys_of(), 0), says)["logits"])
    np.testing.assert_allclose(found.std((-1, -2)), 1, atol=0.05)
    assert len(np.unique(found[..., 0, 0])) == 2 * SEEDS  # each its own


@pytest.mark.parametrize(("field", "value"), [("clip", 0.0), ("multiplier", -1.0), ("clip", float("inf"))])
def test_other_values_are_refused(field, value):
    with pytest.raises(InputError, match=rf"^noise\.{field}: expected a finite number of more than 0, found {value}$"):
        Noise(**{field: value})
