"""Errors of a receiver, by their statistics over many drives."""

import jax
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.sim.gps import Receiver, gps_fixes

DRIVES, SLOTS = 2000, 20
NUMBERS = np.repeat(np.arange(1, DRIVES + 1), SLOTS)


def errors(seed=0, **settings) -> np.ndarray:
    """[drives, slots, 2] m."""
    position = np.random.default_rng(seed).normal(size=(len(NUMBERS), 2)).astype(np.float32)
    receiver = Receiver(**{"bias": 0.0, "drift": 0.0, "noise": 0.0} | settings)
    fixes = jax.jit(gps_fixes, static_argnames="receiver")(jax.random.key(seed), position, NUMBERS, receiver=receiver)
    return (np.asarray(fixes) - position).reshape(DRIVES, SLOTS, 2)


def test_a_perfect_receiver_says_where_it_is():
    np.testing.assert_array_equal(errors(), 0)


def test_bias_is_of_a_drive():
    bias = errors(bias=2.0)
    np.testing.assert_allclose(bias, np.broadcast_to(bias[:, :1], bias.shape), atol=1e-6)
    np.testing.assert_allclose(bias[:, 0].std(0), 2.0, rtol=0.05)
    assert abs(np.corrcoef(bias[1:, 0, 0], bias[:-1, 0, 0])[0, 1]) < 0.1
    assert abs(np.corrcoef(bias[:, 0].T)[0, 1]) < 0.1


def test_drift_fades_to_one_over_e():
    drift = errors(drift=3.0, lasting=10 * 0.111)
    np.testing.assert_allclose(drift.std((0, 2)), 3.0, rtol=0.06)  # as wide at the start of a drive as at its end
    for apart in (1, 5, 10):
        found = np.corrcoef(drift[:, :-apart, 0].ravel(), drift[:, apart:, 0].ravel())[0, 1]
        assert found == pytest.approx(np.exp(-apart / 10), abs=0.04)


def test_noise_is_of_a_fix():
    noise = errors(noise=0.5)
    np.testing.assert_allclose(noise.std(), 0.5, rtol=0.02)
    assert abs(np.corrcoef(noise[:, :-1, 0].ravel(), noise[:, 1:, 0].ravel())[0, 1]) < 0.03


def test_errors_of_a_drive_do_not_hang_on_the_others_length():
    """The number of a drive draws its bias, wherever it stands."""
    key, receiver = jax.random.key(3), Receiver(bias=1.0, drift=0.0, noise=0.0)
    place = np.zeros((5, 2), np.float32)
    alone = gps_fixes(key, place, np.full(5, 7), receiver)
    after = gps_fixes(key, np.zeros((9, 2), np.float32), np.array([2, 2, 2, 2, 7, 7, 7, 7, 7]), receiver)
    np.testing.assert_array_equal(alone, after[4:])


def test_bad_settings_are_refused():
    for settings in ({"bias": -1.0}, {"noise": float("nan")}, {"lasting": 0.0}):
        with pytest.raises(InputError, match=f"{next(iter(settings))}: expected"):
            Receiver(**settings)
