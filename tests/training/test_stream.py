"""A streamed training and evaluation give what a resident one gives."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Rows
from beamkd.training import FitConfig, Task, advance, batches, map_members, start, stopped, stream
from beamkd.training.stream import Stream, epoch_of_stream, map_batches, start_stream
from tests.training.regression import squares, take

MEMBERS, N, D = 2, 23, 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 2, (N, D)).astype(np.float32)
    return inputs, (inputs @ [1.0, -2.0, 0.5] + 3 + rng.normal(0, 0.3, N)).astype(np.float32)


TASK = Task(squares, take, FitConfig(epochs=7, batch_size=3, patience=2, learning_rate=0.5, final_learning_rate=0.5))
KEYS = jax.vmap(jax.random.key)(jnp.arange(MEMBERS))
PARAMS = {"kernel": jnp.array([[0.3, -0.1, 0.2], [1.0, -2.0, 0.5]]), "bias": jnp.array([0.1, 3.0])}
TRAIN = Rows(jnp.array([np.arange(17), np.arange(17) % 14 + 6]), jnp.array([np.arange(17) < 17, np.arange(17) < 14]))
EXAMPLE_BYTES = MEMBERS * 4 * (D + 1)
"""Of an example of all members."""

VAL = Rows(jnp.array([np.arange(17, 23), np.arange(6)]), jnp.ones((2, 6), bool))


@pytest.fixture(params=[1, 20, 10_000])
def superbatch(request, monkeypatch):
    monkeypatch.setattr(stream, "SUPERBATCH_BYTES", EXAMPLE_BYTES * request.param)
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


@pytest.fixture(scope="module", params=[VAL, None], ids=["with validation", "without"])
def val(request):
    return request.param


@pytest.fixture(scope="module")
def expected(data, val):
    return resident(TASK, data, val)


def test_a_streamed_training_gives_what_a_resident_one_gives(data, superbatch, val, expected):
    close(streamed(TASK, Stream(reader(data)), val), expected)
    if val is not None:
        assert expected.epoch[0] != expected.epoch[1], "members must stop at different epochs for this test to tell"


def test_training_in_a_stream_goes_on_from_any_epoch_bit_for_bit(data):
    source = Stream(reader(data))
    first = start_stream(TASK, PARAMS, source, TRAIN)
    epoch = epoch_of_stream(TASK, source)
    again = epoch_of_stream(TASK, source)
    state = epoch(epoch(first, KEYS, TRAIN, VAL), KEYS, TRAIN, VAL)
    kept = jax.tree.map(np.asarray, epoch(first, KEYS, TRAIN, VAL))
    jax.tree.map(np.testing.assert_array_equal, again(kept, KEYS, TRAIN, VAL), state)
    assert (state.epoch == 2).all()


def test_the_first_state_is_that_of_a_resident_training(data):
    expected = jax.vmap(functools.partial(start, TASK), (0, None, 0))(PARAMS, data, TRAIN)
    found = start_stream(TASK, PARAMS, Stream(reader(data)), TRAIN)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_what_is_read_is_prepared_on_the_device_with_each_members_context(data):
    shift = jnp.array([0.0, 100.0])
    source = Stream(reader(data), lambda shift, examples: (examples[0], examples[1] + shift), shift)
    epoch = epoch_of_stream(TASK, source)
    state = epoch(start_stream(TASK, PARAMS, source, TRAIN), KEYS, TRAIN, VAL)
    for member in range(MEMBERS):
        alone = jax.tree.map(lambda leaf, member=member: leaf[member], (PARAMS, TRAIN, VAL))
        shifted = data[0], data[1] + shift[member]
        begun = start(TASK, alone[0], shifted, alone[1])
        expected = jax.jit(functools.partial(advance, TASK))(begun, KEYS[member], shifted, *alone[1:], 1)
        close(jax.tree.map(lambda leaf, member=member: leaf[member], state), expected)


def test_a_map_over_batches_is_the_same_on_the_device_and_on_the_host(data, superbatch, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATION_BATCH", 4)

    def residuals(params, batch):
        inputs, targets, mask = batch
        error = jnp.where(mask, inputs @ params["kernel"] + params["bias"] - targets, 0)
        return {"errors": error, "count": mask.sum()}

    host, device = (map_batches(residuals, source, take)(PARAMS, TRAIN) for source in (Stream(reader(data)), data))
    assert device["errors"].shape == (MEMBERS, 5, 4)
    np.testing.assert_array_equal(device["count"].sum(1), [17, 14])
    close(host, device)
    for member in range(MEMBERS):
        index, mask = (np.asarray(leaf[member]) for leaf in (TRAIN.index, TRAIN.mask))
        expected = data[0] @ np.asarray(PARAMS["kernel"][member]) + np.asarray(PARAMS["bias"][member]) - data[1]
        found = np.asarray(host["errors"][member]).reshape(-1)[:17]
        np.testing.assert_allclose(found[mask], expected[index[mask]], rtol=1e-4, atol=1e-5)


def test_no_more_is_read_than_is_soon_needed(data, monkeypatch):
    monkeypatch.setattr(stream, "SUPERBATCH_BYTES", 3 * EXAMPLE_BYTES)
    seen = []
    batches = Rows(np.zeros((MEMBERS, 40, 3), int), np.ones((MEMBERS, 40, 3), bool))
    superbatches = stream._superbatches(Stream(reader(data, seen)), batches)
    next(superbatches)
    time.sleep(0.2)
    assert seen.pop(0) == MEMBERS  # one example of each, for its size
    assert seen == [6] * len(seen)
    assert len(seen) <= stream.AHEAD + 2
    assert sum(1 for _ in superbatches) == 39


def test_a_failure_to_read_reaches_the_caller():
    def read(rows):
        raise OSError("the disk is gone")

    batches = Rows(np.zeros((1, 4, 3), int), np.ones((1, 4, 3), bool))
    with pytest.raises(OSError, match="the disk is gone"):
        list(stream._superbatches(Stream(read), batches))
