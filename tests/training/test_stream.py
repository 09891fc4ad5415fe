"""A streamed training and evaluation give what a resident one gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Rows
from beamkd.losses import masked_mean
from beamkd.training import FitConfig, Task, advance, map_members, start, stopped, stream
from beamkd.training.stream import Stream, epoch_of_stream, start_stream

MEMBERS, N, D = 2, 23, 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 2, (N, D)).astype(np.float32)
    return inputs, (inputs @ [1.0, -2.0, 0.5] + 3 + rng.normal(0, 0.3, N)).astype(np.float32)


def take(data, rows):
    return data[0][rows.index], data[1][rows.index], rows.mask


def squares(params, batch, key):
    """Linear regression; with a key its inputs are noisy."""
    inputs, targets, mask = batch
    noise = 0.0 if key is None else 0.3 * jax.random.normal(key, inputs.shape)
    error = jnp.square((inputs + noise) @ params["kernel"] + params["bias"] - targets)
    return masked_mean(error, mask), {"largest": jnp.where(mask, error, 0).max()}


TASK = Task(squares, take, FitConfig(epochs=7, batch_size=3, patience=2, learning_rate=0.5, final_learning_rate=0.5))
KEYS = jax.vmap(jax.random.key)(jnp.arange(MEMBERS))
PARAMS = {"kernel": jnp.array([[0.3, -0.1, 0.2], [1.0, -2.0, 0.5]]), "bias": jnp.array([0.1, 3.0])}
TRAIN = Rows(jnp.array([np.arange(17), np.arange(17) % 14 + 6]), jnp.array([np.arange(17) < 17, np.arange(17) < 14]))
VAL = Rows(jnp.array([np.arange(17, 23), np.arange(6)]), jnp.ones((2, 6), bool))


@pytest.fixture(params=[1, 20, 10_000])
def superbatch(request, monkeypatch):
    monkeypatch.setattr(stream, "SUPERBATCH", request.param)
    return request.param


def reader(data, seen=None):
    def read(rows):
        assert isinstance(rows.index, np.ndarray)
        if seen is not None:
            seen.append(rows.index.size)
        return data[0][rows.index], data[1][rows.index]

    return read


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def resident(task, data, val):
    state = jax.vmap(functools.partial(start, task), (0, None, 0))(PARAMS, data, TRAIN)
    step = map_members(functools.partial(advance, task), (0, 0, None, 0, 0, None))
    return step(state, KEYS, data, TRAIN, val, task.config.epochs)


def streamed(task, source, val):
    state = start_stream(task, PARAMS, source, TRAIN)
    epoch = epoch_of_stream(task, source)
    while not stopped(task.config, state).all():
        state = epoch(state, KEYS, TRAIN, val)
    return state


@pytest.mark.parametrize("val", [VAL, None], ids=["with validation", "without"])
def test_a_streamed_training_gives_what_a_resident_one_gives(data, superbatch, val):
    expected = resident(TASK, data, val)
    close(streamed(TASK, Stream(reader(data)), val), expected)
    if val is not None:
        assert expected.epoch[0] != expected.epoch[1], "members must stop at different epochs for this test to tell"
