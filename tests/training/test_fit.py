"""Training against an independent program in NumPy, and what must hold of early stopping, padding and resuming."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError, Rows
from beamkd.losses import masked_mean
from beamkd.training import FitConfig, Task, advance, all_rows, checkpoints, fit, start, stopped
from tests.training.regression import squares, take

N, D = 10, 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 2, (N, D)).astype(np.float32)
    return jnp.asarray(inputs), jnp.asarray(inputs @ [1.0, -2.0, 0.5] + 3 + rng.normal(0, 0.3, N), jnp.float32)


@pytest.fixture(scope="module")
def params():
    return {"kernel": jnp.array([0.3, -0.1, 0.2]), "bias": jnp.array(0.1)}


def noiseless(params, batch, key):
    return squares(params, batch, None)


def run(task, *args, **kwargs):
    return jax.jit(lambda args, kwargs: fit(task, *args, **kwargs))(args, kwargs)


def part(*index):
    return Rows(jnp.array(index), jnp.ones(len(index), bool))


def equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def close(found, expected, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), found, expected)


def reference(params, data, config):
    """The optimizers and schedules from their papers, all rows in each step; losses and weights."""
    inputs, targets = (np.asarray(array, np.float64) for array in data)
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    weights = np.append(np.asarray(params["kernel"], np.float64), params["bias"])
    momentum = first = second = np.zeros(D + 1)
    losses = []
    for epoch in range(config.epochs):
        error = inputs @ weights - targets
        losses.append((error**2).mean())
        gradient = 2 * inputs.T @ error / len(error)
        norm = np.sqrt((gradient**2).sum())
        if config.clip and norm > config.clip:
            gradient = gradient / norm * config.clip
        gradient = gradient + config.l2 * weights * (config.optimizer != "adamw")
        momentum = config.momentum * momentum + gradient
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9 ** (epoch + 1)) / (np.sqrt(second / (1 - 0.999 ** (epoch + 1))) + 1e-8)
        if config.optimizer == "adamw":
            step = step + config.l2 * weights
        high, low = config.learning_rate, config.final_learning_rate
        rate = {
            "cosine": low + (high - low) * (1 + np.cos(np.pi * epoch / config.epochs)) / 2,
            "steps": high * config.decay ** sum(epoch >= milestone for milestone in config.milestones),
            "constant": high,
        }[config.schedule]
        weights = weights - rate * (momentum if config.optimizer == "sgd" else step)
    return losses, weights


@pytest.mark.parametrize(
    "config",
    [
        FitConfig(epochs=1, learning_rate=0.1),
        FitConfig(epochs=25, learning_rate=0.3, final_learning_rate=0.01, l2=0.0, clip=0.0),
        FitConfig(epochs=25, learning_rate=0.3, final_learning_rate=0.01, l2=0.5, clip=4.0),
        FitConfig(epochs=25, learning_rate=0.3, final_learning_rate=0.01, l2=0.5, clip=4.0, optimizer="adamw"),
        FitConfig(epochs=25, learning_rate=0.02, l2=0.1, clip=4.0, optimizer="sgd", momentum=0.8, schedule="constant"),
        FitConfig(epochs=9, learning_rate=0.3, l2=0.0, schedule="steps", milestones=(2, 5), decay=0.5),
    ],
    ids=["one step", "plain", "with L2 and clipping", "AdamW", "SGD at a constant rate", "steps"],
)
def test_training_is_the_optimizer_with_clipping_l2_and_schedule(data, params, config):
    state = run(Task(noiseless, take, config), jax.random.key(0), params, data, all_rows(N))
    losses, weights = reference(params, data, config)
    np.testing.assert_allclose(np.append(state.params["kernel"], state.params["bias"]), weights, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(state.history["loss"], losses, rtol=1e-3)


def test_every_row_is_seen_once_an_epoch_and_counts_the_same(data, params):
    def loss(params, batch, key):
        _, targets, mask = batch
        value = masked_mean(targets, mask)
        return value + 0 * params["bias"], {"again": value}

    for train in (all_rows(N), Rows(jnp.arange(N) % 7, jnp.arange(N) < 7)):
        state = run(Task(loss, take, FitConfig(epochs=2, batch_size=4)), jax.random.key(0), params, data, train, train)
        expected = np.asarray(data[1])[np.asarray(train.index)[np.asarray(train.mask)]].mean()
        for name in ("loss", "again", "val"):
            np.testing.assert_allclose(state.history[name], [expected] * 2, rtol=1e-5)


def test_each_epoch_and_each_step_draws_anew(data, params):
    def loss(params, batch, key):
        draw = jax.random.uniform(key)
        return 0 * params["bias"], {"draw": draw, "square": draw**2, "first": batch[1][0], "first²": batch[1][0] ** 2}

    config = FitConfig(epochs=5, batch_size=5)
    history = run(Task(loss, take, config), jax.random.key(0), params, data, all_rows(N)).history
    assert len(np.unique(history["draw"])) == 5
    assert (history["square"] - history["draw"] ** 2 > 1e-6).all()  # variance over the steps of an epoch
    assert len(np.unique(history["first"])) > 1
    assert (history["first²"] - history["first"] ** 2 > 1e-6).any()


def test_padded_rows_and_batches_of_padding_alone_have_no_effect(data, params):
    # All of the 10 rows fit one batch, so their order is of no account.
    garbage = tuple(jnp.concatenate([array, jnp.full_like(array, 1e6)]) for array in data)
    task = Task(noiseless, take, FitConfig(epochs=4, batch_size=16, learning_rate=0.1))
    key = jax.random.key(0)
    expected = run(task, key, params, garbage, all_rows(N), all_rows(N))
    for rows in (13, 40):
        padded = Rows(jnp.where(jnp.arange(rows) < N, jnp.arange(rows), N + 3), jnp.arange(rows) < N)
        close(run(task, key, params, garbage, padded, padded), expected)


def test_padding_leaves_a_shuffled_training_in_small_batches_as_it_is(data, params):
    task = Task(squares, take, FitConfig(epochs=3, batch_size=4, learning_rate=0.1))
    key = jax.random.key(0)
    expected = run(task, key, params, data, all_rows(N))
    padded = Rows(jnp.arange(27) % N, jnp.arange(27) < N)
    close(run(task, key, params, data, padded), expected)


def test_training_follows_its_key(data, params):
    task = Task(squares, take, FitConfig(epochs=3, batch_size=4, learning_rate=0.1))
    train = jax.jit(lambda seed: fit(task, jax.random.key(seed), params, data, all_rows(N)).params)
    one, again, other = train(0), train(0), train(1)
    equal(one, again)
    assert np.abs(one["kernel"] - other["kernel"]).max() > 1e-4


def walk(params, table, key):
    """With a key: a slope that moves the weight by 0.1 a step; without: the table's entry for that many steps."""
    return (table[jnp.round(10 * params).astype(int)] if key is None else -params), {}


WALK = FitConfig(epochs=12, patience=3, learning_rate=0.1, final_learning_rate=0.1, l2=0.0, clip=0.0)
TABLES = {
    "best in the middle": (
        [9, 5, 4, 3, 3.5, 2, 6, 6, 2, 1, 1, 1, 1],
        5,
        8,
    ),  # epoch 8 equals the best, 9 comes too late
    "never better": ([9, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], 1, 4),
    "always better": ([9, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1], 12, 12),
    "not a number": ([9] + [np.nan] * 12, 0, 3),
}


@pytest.fixture(scope="module")
def walked():
    task = Task(walk, lambda table, rows: table, WALK)

    @jax.jit
    def train(table):
        return fit(task, jax.random.key(0), jnp.array(0.0), table, all_rows(1), all_rows(1))

    return train


@pytest.mark.parametrize("table", TABLES)
def test_training_stops_when_patience_runs_out_and_keeps_the_best_weights(walked, table):
    losses, best, last = TABLES[table]
    state = walked(jnp.array(losses, jnp.float32))
    assert (state.best_epoch, state.epoch) == (best, last)
    np.testing.assert_allclose(state.best, 0.1 * best, atol=1e-5)
    np.testing.assert_allclose(state.params, 0.1 * last, atol=1e-5)
    assert state.best_loss == (losses[best] if best else np.inf)
    np.testing.assert_array_equal(state.history["val"], np.float32(losses[1 : last + 1] + [np.nan] * (12 - last)))
    np.testing.assert_allclose(state.history["loss"][:last], -0.1 * np.arange(last), atol=1e-5)
    assert np.isnan(state.history["loss"][last:]).all()
    assert stopped(WALK, state)


def test_vmapped_members_equal_each_alone_though_they_stop_at_different_epochs(walked):
    tables = jnp.array([losses for losses, _, _ in TABLES.values()], jnp.float32)
    together = jax.jit(jax.vmap(walked))(tables)
    np.testing.assert_array_equal(together.epoch, [last for _, _, last in TABLES.values()])
    for member, table in enumerate(tables):
        close(jax.tree.map(lambda leaf, member=member: leaf[member], together), walked(table))
    assert stopped(WALK, together).shape == (4,)
    assert stopped(WALK, together).all()


def test_without_patience_training_never_stops_early_but_keeps_the_best_weights():
    task = Task(walk, lambda table, rows: table, dataclasses.replace(WALK, patience=0))
    losses = jnp.array([9, 1] + [5] * 11, jnp.float32)
    state = run(task, jax.random.key(0), jnp.array(0.0), losses, all_rows(1), all_rows(1))
    assert (state.best_epoch, state.epoch) == (1, 12)
    np.testing.assert_allclose(state.best, 0.1, atol=1e-5)


def test_without_validation_the_last_weights_are_the_best():
    task = Task(walk, lambda table, rows: table, WALK)
    state = run(task, jax.random.key(0), jnp.array(0.0), jnp.zeros(13), all_rows(1))
    assert (state.best_epoch, state.epoch) == (12, 12)
    equal(state.best, state.params)
    assert np.isnan(state.history["val"]).all()
    np.testing.assert_allclose(state.best_loss, state.history["loss"][-1])


def test_validation_is_without_noise_and_over_its_own_rows(data, params):
    task = Task(squares, take, FitConfig(epochs=2, batch_size=1, learning_rate=0.1))
    train, val = part(*range(4)), part(*range(4, 10))
    state = run(task, jax.random.key(0), params, data, train, val)
    weights, chosen = state.params, slice(4, 10)
    expected = np.square(data[0][chosen] @ weights["kernel"] + weights["bias"] - data[1][chosen]).mean()
    np.testing.assert_allclose(state.history["val"][-1], expected, rtol=1e-5)
    assert np.abs(state.history["loss"] - state.history["val"]).min() > 1e-4


@pytest.fixture(scope="module")
def resumable(data, params):
    """A task with noise, shuffling and early stopping; a function that advances it; its first state."""
    task = Task(squares, take, FitConfig(epochs=9, batch_size=3, patience=4, learning_rate=0.2))
    train, val = part(0, 1, 2, 3, 4, 5, 6), part(7, 8, 9)

    @jax.jit
    def go(state, until):
        return advance(task, state, jax.random.key(3), data, train, val, until)

    return task, go, start(task, params, data, train)


def test_training_in_pieces_equals_training_in_one_go_bit_for_bit(resumable, data, params):
    task, go, state = resumable
    expected = go(state, 9)
    equal(jax.jit(lambda: fit(task, jax.random.key(3), params, data, part(*range(7)), part(7, 8, 9)))(), expected)
    epochs = []
    for until in (2, 2, 5, 100):
        state = go(state, until)
        epochs.append(int(state.epoch))
    assert epochs[:3] == [2, 2, 5]
    equal(state, expected)
    equal(go(state, 100), expected)
    assert not stopped(task.config, go(resumable[2], 2))
    assert stopped(task.config, state)


def test_training_resumed_from_a_checkpoint_equals_training_in_one_go_bit_for_bit(resumable, tmp_path):
    _, go, state = resumable
    checkpoints.save(tmp_path, "student", go(state, 2))
    restored = checkpoints.restore(tmp_path, "student", state)
    assert restored.epoch == 2
    equal(go(restored, 9), go(state, 9))


def test_the_first_state_has_the_names_of_the_losses_parts(resumable):
    task, _, state = resumable
    assert set(state.history) == {"loss", "val", "largest"}
    assert all(values.shape == (9,) and np.isnan(values).all() for values in state.history.values())
    assert (state.epoch, state.best_epoch, state.best_loss) == (0, 0, np.inf)
    assert not stopped(task.config, state)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("patience", -1),
        ("l2", -1e-9),
        ("l2", float("nan")),
        ("clip", -1.0),
        ("clip", float("nan")),
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", 1e-7),
        ("final_learning_rate", -1e-9),
        ("final_learning_rate", 1.0),
        ("optimizer", "adagrad"),
        ("schedule", "linear"),
        ("momentum", 1.0),
        ("momentum", float("nan")),
        ("decay", -0.1),
        ("milestones", (3,)),
    ],
)
def test_a_config_that_cannot_train_is_an_error_that_names_the_field(field, value):
    with pytest.raises(InputError, match="learning_rate" if "rate" in field else field) as caught:
        FitConfig(**{field: value})
    assert str(value) in str(caught.value)


@pytest.mark.parametrize("milestones", [(), (0,), [3]])
def test_steps_need_a_tuple_of_epochs(milestones):
    with pytest.raises(InputError, match="milestones"):
        FitConfig(schedule="steps", milestones=milestones)


def test_the_least_values_are_allowed():
    assert FitConfig(epochs=1, batch_size=1, patience=0, l2=0.0, clip=0.0, final_learning_rate=0.0)
    assert FitConfig(learning_rate=0.1, final_learning_rate=0.1)
