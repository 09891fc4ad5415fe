"""Students from teachers, on networks of a few dozen weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from beamkd.base import InputError, Output, Rows
from beamkd.data import select, sensor_batch, sensor_input
from beamkd.distill import distill, distillation_task, held_out, hindsight_logits, teacher_logits
from beamkd.losses import kl, mse
from beamkd.models import GruTeacher, network
from beamkd.training import FitConfig, all_rows, batches, fit, supervised_task

FRAMES, FUTURE, RAYS, BEAMS, COUNT = 2, 1, 6, 5, 60
MODULE = GruTeacher(embed=6, hidden=8, dropout=0.0, beams=BEAMS)


@pytest.fixture(scope="module")
def examples():
    """A batch of scans with random labels, some of them missing."""
    rng = np.random.default_rng(0)
    batch = sensor_batch(jnp.asarray(rng.random((COUNT, FRAMES, RAYS)), jnp.float32), FUTURE, "lidar")
    labels = rng.integers(-1, BEAMS, batch.labels.shape)
    return batch.replace(labels=jnp.asarray(labels))


def linear(params, batch, key=None):
    """A network that is one matrix; the logits of all steps but the last come from the first frame."""
    scans = sensor_input("lidar")(batch)
    scans = jnp.concatenate([scans[:, :1], scans[:, :1], scans[:, -1:]], axis=1)
    if key is not None:
        scans = scans * jax.random.bernoulli(key, 0.9, scans.shape)
    return Output(logits=scans @ params, features=scans[:, -1])


def matrix(seed, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=(RAYS, BEAMS)), jnp.float32)


@pytest.fixture(scope="module")
def teacher():
    """Logits of a matrix with a spread of some nats; without dropout, ever."""

    def forward(params, batch, key=None):
        assert key is None, "teachers answer without dropout"
        return linear(params, batch)

    return forward, matrix(1, 3.0)


@pytest.mark.parametrize("batch_size", [7, 60, 512])
def test_answers_are_the_teachers_logits_on_every_row(examples, teacher, monkeypatch, batch_size):
    monkeypatch.setattr(batches, "EVALUATION_BATCH", batch_size)
    found = jax.jit(lambda params: teacher_logits(teacher[0], params, examples, COUNT, select))(teacher[1])
    assert found.shape == (COUNT, FRAMES + FUTURE, BEAMS)
    np.testing.assert_allclose(found, teacher[0](teacher[1], examples).logits, rtol=1e-5, atol=1e-6)


def recurrent(params, batch, key=None):
    """Logits that tell steps and windows apart: sums of the frames so far, times the number of the step."""
    scans = jnp.pad(sensor_input("lidar")(batch), ((0, 0), (0, FUTURE), (0, 0)))
    logits = jnp.cumsum(scans, axis=1) * jnp.arange(1, scans.shape[1] + 1)[:, None] @ params
    return Output(logits=logits, features=scans[:, -1])


def test_in_hindsight_a_slot_ahead_is_the_mean_of_all_windows_that_predict_it():
    frames = np.random.default_rng(4).random((7, FRAMES + 1, RAYS)).astype(np.float32)
    params = matrix(5)

    @jax.jit
    def ask(frames):
        batch = sensor_batch(frames, FUTURE, "lidar")
        return hindsight_logits(recurrent, params, batch, len(frames), select, FRAMES, frames.shape[1] - FRAMES)

    now, later = (frames[:, first : first + FRAMES] for first in (0, 1))
    expected = np.stack([now[:, 0], 2 * now.sum(1), (3 * now.sum(1) + 2 * later.sum(1)) / 2], axis=1) @ params
    np.testing.assert_allclose(ask(frames), expected, rtol=1e-5, atol=1e-6)
    plain = jax.jit(lambda frames: teacher_logits(recurrent, params, sensor_batch(frames, FUTURE, "lidar"), 7, select))
    np.testing.assert_array_equal(ask(now), plain(now))


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("loss", [kl, mse])
def test_the_loss_of_a_batch_by_scipy_over_all_steps_and_unpadded_rows(examples, alpha, loss):
    targets = np.random.default_rng(2).normal(0, 3, (COUNT, 3, BEAMS)).astype(np.float32)
    rows = Rows(jnp.array([4, 9, 33, 2, 1]), jnp.array([True, True, True, False, True]))
    params = matrix(3)
    task = distillation_task(linear, select, loss=loss, alpha=alpha)
    batch = task.take((examples, jnp.asarray(targets)), rows)
    total, parts = jax.jit(lambda params: task.loss(params, batch, None))(params)

    chosen = np.array([4, 9, 33, 1])
    student = np.asarray(linear(params, examples).logits, np.float64)[chosen]
    p, log_p, log_q = (
        softmax(targets[chosen] / 2, -1),
        log_softmax(targets[chosen] / 2, -1),
        log_softmax(student / 2, -1),
    )
    distance = {kl: 4 * (p * (log_p - log_q)).sum(-1), mse: np.square(student - targets[chosen]).mean(-1)}[loss].mean()
    labels = np.asarray(examples.labels)[chosen]
    likelihood = np.take_along_axis(log_softmax(student[:, -2:], -1), np.maximum(labels, 0)[..., None], -1)[..., 0]
    surprise = -likelihood[labels >= 0].mean()
    np.testing.assert_allclose(parts["teacher"], distance, rtol=1e-4)
    np.testing.assert_allclose(total, alpha * distance + (1 - alpha) * surprise, rtol=1e-4)
    if alpha < 1:
        np.testing.assert_allclose(parts["labels"], surprise, rtol=1e-4)
    else:
        assert set(parts) == {"teacher"}


CONFIG = FitConfig(epochs=4, batch_size=16, learning_rate=0.1)


def trainer(task):
    return jax.jit(lambda data: fit(task, jax.random.key(0), matrix(3), data, *held_out(COUNT, 20)))


def test_at_alpha_one_no_label_is_looked_at(examples, teacher):
    targets = teacher_logits(*teacher, examples, COUNT, select)
    train = trainer(distillation_task(linear, select, CONFIG))
    garbage = examples.replace(labels=jnp.full_like(examples.labels, 10**6))
    one, other = (train((batch, targets)) for batch in (examples, garbage))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert np.isfinite(one.params).all()


def test_at_alpha_zero_the_teacher_has_no_say_and_training_is_supervised(examples, teacher):
    targets = teacher_logits(*teacher, examples, COUNT, select)
    train = trainer(distillation_task(linear, select, CONFIG, alpha=0.0))
    one, other = (train((examples, scale * targets)) for scale in (1, -7))
    np.testing.assert_array_equal(one.best, other.best)
    alone = trainer(supervised_task(linear, select, CONFIG))(examples)
    np.testing.assert_allclose(one.best, alone.best, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.history["labels"], alone.history["labels"], rtol=1e-5)


def test_a_student_comes_much_closer_to_its_teacher_on_examples_held_out(examples, teacher):
    config = FitConfig(epochs=40, batch_size=16, learning_rate=0.03)

    @jax.jit
    def run(key):
        params = MODULE.init(key, jnp.zeros((1, 1, RAYS)))
        student = network(MODULE, sensor_input("lidar"))
        state = distill(key, student, params, *teacher, examples, COUNT, select, config, last=20)
        wanted, tested = teacher[0](teacher[1], examples).logits[40:], jax.tree.map(lambda leaf: leaf[40:], examples)
        return state, [kl(student(p, tested, None).logits, wanted).mean() for p in (params, state.best)]

    state, (before, after) = run(jax.random.key(0))
    assert after < 0.4 * before
    np.testing.assert_allclose(state.best_loss, after, rtol=1e-4)  # chosen on just these, and on the teacher alone
    assert state.history["loss"][0] > state.history["loss"][int(state.epoch) - 1]


def test_vmap_over_keys_weights_and_examples_equals_each_student_alone(examples, teacher):
    def one(key, params, scale):
        scaled = examples.replace(sensors={"lidar": scale * examples.sensors["lidar"]})
        return distill(key, linear, params, *teacher, scaled, COUNT, select, CONFIG, last=20)

    keys, weights, scales = (
        jax.random.split(jax.random.key(0), 2),
        jnp.stack([matrix(3), matrix(4)]),
        jnp.array([1.0, 2.0]),
    )
    together, alone = jax.jit(jax.vmap(one))(keys, weights, scales), jax.jit(one)
    for member in range(2):
        expected = alone(keys[member], weights[member], scales[member])
        np.testing.assert_allclose(together.best[member], expected.best, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(together.history["val"][member], expected.history["val"], rtol=1e-4)


def test_the_last_examples_are_held_out():
    train, val = held_out(5, 2)
    np.testing.assert_array_equal(train.index, [0, 1, 2])
    np.testing.assert_array_equal(val.index, [3, 4])
    assert train.mask.all()
    assert val.mask.all()


@pytest.mark.parametrize("last", [0, -1, 5, 6])
def test_holding_out_nothing_or_everything_is_an_error(last):
    with pytest.raises(InputError, match=f"fewer than all 5, found {last}"):
        held_out(5, last)


def test_a_batch_may_have_a_mask_of_its_own(examples):
    task = distillation_task(linear, select, alpha=0.5)
    targets = jnp.zeros((COUNT, 3, BEAMS))
    half = examples.replace(mask=jnp.arange(COUNT) < 30)
    value = jax.jit(lambda rows: task.loss(matrix(3), task.take((half, targets), rows), None)[0])
    np.testing.assert_allclose(value(all_rows(COUNT)), value(all_rows(30)), rtol=1e-5)
