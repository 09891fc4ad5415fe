"""Training of members as a program runs it: like `fit`, member by member, and gone on with where it was stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.training import FitConfig, Task, Trainer, all_rows, checkpoints, fit
from beamkd.training.trainer import CHUNKS

MEMBERS, EPOCHS = 3, 2 * CHUNKS


def loss(params, batch, key):
    noise = 0 if key is None else 0.1 * jax.random.normal(key)
    return jnp.mean((params["w"] - batch + noise) ** 2), {}


def take(data, rows):
    return data[rows.index]


@pytest.fixture
def problem():
    """Task, keys, initial weights, data, rows to train on and to choose by."""
    task = Task(loss, take, FitConfig(epochs=EPOCHS, batch_size=2, patience=0))
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    val = jax.tree.map(lambda leaf: leaf[:2], all_rows(4))
    return task, keys, {"w": jnp.arange(MEMBERS, dtype=jnp.float32)}, jnp.arange(4.0), all_rows(4), val


class Stop(Exception):
    pass


def stop_at(epoch):
    def progress(name, state):
        if state.epoch.max() >= epoch:
            raise Stop

    return progress


def listener():
    """A list, and the progress that puts into it what it is told."""
    told = []
    return told, lambda name, state: told.append((name, int(state.epoch.max())))


def test_members_are_trained_as_each_alone(problem):
    task, keys, params, data, train, val = problem
    found = Trainer().train("any", *problem)
    expected = jax.vmap(lambda key, own: fit(task, key, own, data, train, val))(keys, params)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), found, expected)


@pytest.mark.parametrize("interval, written", [(0, CHUNKS), (60, 1)])
def test_a_checkpoint_is_written_when_it_is_due_and_at_the_end(problem, tmp_path, monkeypatch, interval, written):
    saved, save = [], checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *args: saved.append(int(args[2].epoch.max())) or save(*args))
    told, progress = listener()
    Trainer(folder=tmp_path, progress=progress, interval=interval).train("mine", *problem)
    epochs = list(range(0, EPOCHS + 1, EPOCHS // CHUNKS))
    assert told == [("mine", epoch) for epoch in epochs]
    assert saved == epochs[-written:]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(problem, tmp_path):
    expected = Trainer().train("mine", *problem)
    with pytest.raises(Stop):
        Trainer(folder=tmp_path, origin={"a": 1}, progress=stop_at(EPOCHS // 2), interval=0).train("mine", *problem)
    told, progress = listener()
    found = Trainer(folder=tmp_path, origin={"a": 1}, resume=True, progress=progress).train("mine", *problem)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert told[0] == ("mine", EPOCHS // 2)


def test_one_that_does_not_resume_starts_anew(problem, tmp_path):
    with pytest.raises(Stop):
        Trainer(folder=tmp_path, progress=stop_at(EPOCHS // 2), interval=0).train("mine", *problem)
    told, progress = listener()
    Trainer(folder=tmp_path, progress=progress).train("mine", *problem)
    assert told[0] == ("mine", 0)


@pytest.mark.parametrize("other", ["origin", "train", "val"])
def test_a_checkpoint_of_anything_else_is_refused(problem, tmp_path, other):
    Trainer(folder=tmp_path, origin={"a": 1}).train("mine", *problem)
    task, keys, params, data, train, val = problem
    few = jax.tree.map(lambda leaf: leaf[1:3], train)
    trainer = Trainer(folder=tmp_path, origin={"a": 2 if other == "origin" else 1}, resume=True)
    rows = few if other == "train" else train, few if other == "val" else val
    with pytest.raises(InputError, match="mine: expected a checkpoint of this run, found one of another"):
        trainer.train("mine", task, keys, params, data, *rows)


def test_a_loss_that_is_not_finite_names_the_training_and_the_member(problem):
    task, keys, params, data, train, val = problem
    params = {"w": params["w"].at[1].set(jnp.inf)}
    with pytest.raises(InputError, match="^mine: expected a finite loss, found nan with seed number 2; "):
        Trainer().train("mine", task, keys, params, data, train, val)
