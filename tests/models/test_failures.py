"""Sensors that fail, by hand and by NumPy, and networks that meet it in tests or in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError, Model, as_taken
from beamkd.models import FAILURES, SensorStudent, SensorTeacher, failing
from beamkd.models.failures import SensorDropout, frozen, missing, noisy

SMALL = {"channels": (3, 2), "embed": 4, "hidden": 5, "dropout": 0.0, "beams": 6}
SHAPES = {"gps": (2,), "lidar": (13,)}
BOTH = ("gps", "lidar")


def seen(names, count=3, length=2):
    rng = np.random.default_rng(0)
    return {name: rng.normal(1, 2, (count, length, *SHAPES[name])).astype(np.float32) for name in names}


def weights(module, frames):
    shapes, rng = jax.eval_shape(module.init, jax.random.key(0), frames), np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), leaf.dtype), shapes)


def test_a_missing_sensor_gives_zeros_and_a_frozen_one_its_first_frame_by_hand():
    frames = jnp.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    np.testing.assert_array_equal(missing(frames), np.zeros((2, 2, 2)))
    np.testing.assert_array_equal(frozen(frames), [[[1, 2], [1, 2]], [[5, 6], [5, 6]]])


def test_noise_is_as_strong_as_what_a_window_shows_and_always_the_same():
    scales = np.array([1, 20, 0, 0.1], np.float32)[:, None, None]
    frames = 3 + scales * np.random.default_rng(0).normal(size=(4, 50, 40)).astype(np.float32)
    found = noisy(jnp.asarray(frames))
    noise = np.asarray(found, np.float64) - frames
    np.testing.assert_allclose(noise.std((1, 2)), frames.std((1, 2)), rtol=0.1, atol=1e-5)
    np.testing.assert_array_less(np.abs(noise.mean((1, 2))), 0.1 * frames.std((1, 2)) + 1e-5)
    assert np.abs(np.corrcoef(noise[[0, 1, 3]].reshape(3, -1)) - np.eye(3)).max() < 0.1
    np.testing.assert_array_equal(noisy(jnp.asarray(frames)), found)


@pytest.mark.parametrize(("sensors", "failure"), [(("gps",), name) for name in FAILURES] + [(BOTH, "frozen")], ids=str)
def test_a_network_whose_sensor_fails_is_the_network_fed_with_failed_frames(sensors, failure):
    module, frames = SensorStudent(sensors, **SMALL), seen(sensors)
    params = weights(module, as_taken(frames))
    members = jax.tree.map(lambda leaf: jnp.stack([0 * leaf, leaf]), params)
    model = failing(Model(module, members, {name: leaf.shape[1:] for name, leaf in frames.items()}), "gps", failure)
    second = jax.tree.map(lambda leaf: leaf[1], model.params)

    @jax.jit
    def run(frames):
        failed = {**frames, "gps": FAILURES[failure](frames["gps"])}
        cases = (module, params, failed), (module, params, frames), (model.module, second, frames)
        return [each.apply(own, as_taken(given), future=1) for each, own, given in cases]

    expected, working, found = run(frames)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), found, expected)
    assert np.abs(found.logits - working.logits).max() > 1e-3


@pytest.mark.parametrize(
    ("sensor", "failure", "told"),
    [
        ("gps", "stolen", "failure: expected one of missing, frozen, noisy, found stolen"),
        ("radar", "missing", "sensor: expected one of gps, lidar, found radar"),
    ],
)
def test_an_unknown_failure_and_a_sensor_that_the_network_lacks_are_refused(sensor, failure, told):
    with pytest.raises(InputError, match=told):
        failing(Model(SensorStudent(BOTH, **SMALL), None, {"gps": (2, 2), "lidar": (2, 13)}), sensor, failure)


@pytest.mark.parametrize("sensors", [2, 3])
@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_sensors_are_left_out_at_their_rate_and_never_all_of_a_window(sensors, rate):
    codes = jnp.broadcast_to(jnp.arange(1.0, 5).reshape(2, 2), (4000, sensors, 2, 2))
    blank = -jnp.arange(1.0, 1 + 2 * sensors).reshape(sensors, 2)
    found = SensorDropout(rate).apply({}, codes, blank, True, rngs={"dropout": jax.random.key(1)})
    left_out = np.asarray(found == blank[:, None]).all((2, 3))
    kept = np.asarray(found == codes).all((2, 3))
    np.testing.assert_array_equal(left_out, ~kept)
    assert kept.any(1).all()
    np.testing.assert_allclose(left_out.mean(0), rate - rate**sensors, atol=0.03)  # all at once: then none is
    np.testing.assert_allclose((left_out[:, 0] & left_out[:, 1]).mean(), rate**2 - rate**sensors, atol=0.03)


@pytest.mark.parametrize(("rate", "train"), [(0.9, False), (0.0, True)])
def test_no_sensor_is_left_out_without_training_or_at_no_rate(rate, train):
    codes = jnp.ones((5, 2, 3, 4))
    np.testing.assert_array_equal(SensorDropout(rate).apply({}, codes, jnp.zeros((2, 4)), train), codes)


def test_a_sensor_that_is_left_out_is_one_of_zero_frames_and_devices_leave_out_what_one_would():
    module, frames = SensorTeacher(BOTH, **SMALL, sensor_dropout=0.5), seen(BOTH, 16)
    params = weights(module, frames)
    zeros = {name: np.zeros_like(leaf) for name, leaf in frames.items()}
    apply = jax.jit(lambda frames: module.apply(params, frames, future=1).logits)
    cases = np.stack([apply({**frames, **blank}) for blank in ({}, {"gps": zeros["gps"]}, {"lidar": zeros["lidar"]})])

    def dropped(frames, axis_name=None):
        rngs = {"dropout": jax.random.key(3)}
        return module.apply(params, frames, future=1, train=True, axis_name=axis_name, rngs=rngs).logits

    found = jax.jit(dropped)(frames)
    near = np.abs(found - cases).max((2, 3)) < 1e-5
    np.testing.assert_array_equal(near.sum(0), 1)
    assert near.any(1).all()
    shares = jax.tree.map(lambda leaf: leaf.reshape(4, 4, *leaf.shape[1:]), frames)
    shared = jax.jit(jax.vmap(lambda own: dropped(own, "devices"), axis_name="devices"))(shares)
    np.testing.assert_allclose(shared.reshape(found.shape), found, atol=1e-5)


def test_the_only_sensor_of_a_network_is_never_left_out():
    module, places = SensorTeacher(("gps",), **SMALL, sensor_dropout=0.9), seen(("gps",))["gps"]
    params = weights(module, places)
    run = jax.jit(module.apply, static_argnames="train")
    found = run(params, places, train=True, rngs={"dropout": jax.random.key(1)})
    np.testing.assert_allclose(found.logits, run(params, places).logits, atol=1e-6)
