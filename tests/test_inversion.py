"""Generators from teachers, on networks of a few dozen weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from beamkd.base import InputError, Metadata, Output, Rows
from beamkd.data import select, sensor_batch, sensor_input
from beamkd.inversion import STEPS, GeneratorLoss, generate, inversion_task, invert, summarize
from beamkd.losses import layer_statistics
from beamkd.models import Generator, GruTeacher, network
from beamkd.training import FitConfig, batches

FRAMES, FUTURE, RAYS, BEAMS = 2, 1, 6, 5
GENERATOR = Generator(noise=4, hidden=8, frames=FRAMES, rays=RAYS)
AS_BATCH = functools.partial(sensor_batch, future=FUTURE, name="lidar")
SUMMARY = Metadata(mean=jnp.array([0.5, -0.2, 0.3]), variance=jnp.array([0.2, 0.1, 0.3]))


def teacher(params, batch, key=None):
    """Features: a saturated map of the last frame; logits of three steps. Never with dropout."""
    assert key is None, "teachers are inverted without dropout"
    scans = sensor_input("lidar")(batch)
    logits = jnp.concatenate([scans, scans[:, :1] + 1], axis=1) @ params["beams"]
    states = jnp.tanh(scans @ params["features"])
    return Output(logits=logits, features=states[:, -1], layers={"states": states})


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    return {
        "features": jnp.asarray(rng.normal(size=(RAYS, 3)), jnp.float32),
        "beams": jnp.asarray(rng.normal(size=(RAYS, BEAMS)), jnp.float32),
    }


@pytest.mark.parametrize("batch_size", [4, 13, 512])
def test_metadata_are_mean_and_unbiased_variance_over_unpadded_rows(params, monkeypatch, batch_size):
    monkeypatch.setattr(batches, "EVALUATION_BATCH", batch_size)
    scans = np.random.default_rng(1).random((20, FRAMES, RAYS)).astype(np.float32)
    batch = AS_BATCH(jnp.asarray(scans))
    rows = Rows(jnp.array([3, 19, 5, 0, 0, 7, 2, 11, 12, 13, 14, 0, 0]), jnp.arange(13) % 5 != 4)
    found = jax.jit(lambda rows: summarize(teacher, params, batch, rows, select))(rows)
    chosen = np.asarray(rows.index)[np.asarray(rows.mask)]
    features = np.tanh(scans[chosen, -1].astype(np.float64) @ np.asarray(params["features"], np.float64))
    np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, features.var(0, ddof=1), rtol=1e-5)
    assert found.layers.keys() == {"logits", "states"}
    logits = np.asarray(teacher(params, AS_BATCH(jnp.asarray(scans[chosen]))).logits, np.float64)
    np.testing.assert_allclose(found.layers["logits"].mean, logits.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.layers["logits"].variance, logits.var(0, ddof=1), rtol=1e-4)
    np.testing.assert_array_equal(found.layers["states"].mean[-1], found.mean)


def test_generated_scans_come_from_standard_normal_noise_and_follow_the_key():
    weights = jax.jit(GENERATOR.init)(jax.random.key(0), jnp.zeros((1, 4)))
    found = generate(jax.random.key(1), GENERATOR, weights, 5)
    assert found.shape == (5, FRAMES, RAYS)
    np.testing.assert_allclose(found, GENERATOR.apply(weights, jax.random.normal(jax.random.key(1), (5, 4))), rtol=1e-5)
    assert np.abs(found - generate(jax.random.key(2), GENERATOR, weights, 5)).max() > 1e-3
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_generators_loss_by_numpy_of_features_and_of_the_predicted_slots(params):
    weights = jax.jit(GENERATOR.init)(jax.random.key(0), jnp.zeros((1, 4)))
    config = FitConfig(epochs=1, batch_size=6, patience=0)
    task = inversion_task(teacher, GENERATOR, AS_BATCH, GeneratorLoss(2.0, 0.1, 0.5), config)
    key = jax.random.key(5)
    total, parts = jax.jit(task.loss)(weights, task.take((params, SUMMARY), None), key)

    output = teacher(params, AS_BATCH(generate(key, GENERATOR, weights, 6)))
    features, logits = (np.asarray(array, np.float64) for array in (output.features, output.logits))
    mean_error = np.square(features.mean(0) - SUMMARY.mean).mean()
    variance_error = np.square(features.var(0, ddof=1) - SUMMARY.variance).mean()
    beams = softmax(logits[:, -2:], -1).mean((0, 1))
    expected = {
        "metadata": mean_error + variance_error,
        "activation": -np.abs(features).mean(),
        "entropy": (beams * np.log(beams)).sum(),
    }
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-4, err_msg=name)
    weighted = 2.0 * expected["metadata"] + 0.1 * expected["activation"] + 0.5 * expected["entropy"]
    np.testing.assert_allclose(total, weighted, rtol=1e-4)


def test_the_term_of_all_layers_adds_up_those_that_there_are_summaries_of(params):
    weights = jax.jit(GENERATOR.init)(jax.random.key(0), jnp.zeros((1, 4)))
    layers = {"states": Metadata(jnp.full((FRAMES, 3), 0.1), jnp.full((FRAMES, 3), 0.2))}
    layers["logits"] = Metadata(jnp.ones((FRAMES + FUTURE, BEAMS)), jnp.full((FRAMES + FUTURE, BEAMS), 2.0))
    config = FitConfig(epochs=1, batch_size=6, patience=0)
    task = inversion_task(teacher, GENERATOR, AS_BATCH, GeneratorLoss(0.0, layers=3.0), config)
    key = jax.random.key(5)
    total, parts = jax.jit(task.loss)(weights, (params, SUMMARY.replace(layers=layers)), key)

    output = teacher(params, AS_BATCH(generate(key, GENERATOR, weights, 6)))
    given = {"states": output.layers["states"], "logits": output.logits}
    expected = sum(layer_statistics(given[name], own.mean, own.variance) for name, own in layers.items())
    np.testing.assert_allclose(parts["layers"], expected, rtol=1e-4)
    np.testing.assert_allclose(total, 3 * expected, rtol=1e-4)
    with pytest.raises(InputError, match="metadata of the teacher's layers"):
        task.loss(weights, (params, SUMMARY), key)


def test_inversion_brings_a_gru_teachers_feature_statistics_near_those_of_its_data():
    module = GruTeacher(embed=6, hidden=4, dropout=0.5, beams=BEAMS)
    forward = network(module, sensor_input("lidar"))
    rng = np.random.default_rng(2)
    real = AS_BATCH(
        jnp.asarray(3 * rng.random((64, FRAMES, RAYS)) * (rng.random((64, FRAMES, RAYS)) < 0.5), jnp.float32)
    )
    config = FitConfig(epochs=150, patience=0, batch_size=32, learning_rate=0.01)

    @jax.jit
    def run(key, weights):
        summary = summarize(forward, weights, real, Rows(jnp.arange(64), jnp.ones(64, bool)), select)
        state = invert(key, GENERATOR, forward, weights, summary, AS_BATCH, GeneratorLoss(), config)
        made = generate(jax.random.key(9), GENERATOR, state.params, 1000)
        return state, summary, forward(weights, AS_BATCH(made), None).features

    weights = jax.tree.map(lambda leaf: 2 * leaf, jax.jit(module.init)(jax.random.key(3), jnp.zeros((1, 1, RAYS))))
    before = jax.tree.map(np.array, weights)
    state, summary, features = run(jax.random.key(4), weights)
    jax.tree.map(np.testing.assert_array_equal, weights, before)
    history = state.history["metadata"]
    assert history[-10:].mean() < 0.3 * history[:3].mean()
    np.testing.assert_allclose(history, state.history["loss"], rtol=1e-6)  # the only term of weight above 0
    after = np.square(features.mean(0) - summary.mean).mean() + np.square(features.var(0) - summary.variance).mean()
    assert after < 0.3 * history[0]
    assert (state.epoch, state.best_epoch) == (150, 150)
    jax.tree.map(np.testing.assert_array_equal, state.best, state.params)


@pytest.fixture(scope="module")
def still(params):
    """A generator after six steps that hardly move it."""
    config = FitConfig(epochs=6, batch_size=4, patience=0, learning_rate=1e-12, final_learning_rate=0.0)
    train = jax.jit(
        lambda params: invert(jax.random.key(0), GENERATOR, teacher, params, SUMMARY, AS_BATCH, config=config)
    )
    return train(params)


def test_only_the_generators_weights_are_trained_and_not_the_teachers(still):
    like = jax.eval_shape(GENERATOR.init, jax.random.key(0), jnp.zeros((1, 4)))
    assert jax.tree.map(jnp.shape, still.params) == jax.tree.map(jnp.shape, like)
    assert jax.tree.map(jnp.shape, still.opt_state[2].mu) == jax.tree.map(jnp.shape, like)


def test_every_step_draws_fresh_noise(still):
    assert len(np.unique(still.history["loss"])) == 6


def test_vmap_over_keys_makes_generators_that_equal_each_alone(params):
    config = FitConfig(epochs=5, batch_size=8, patience=0, learning_rate=0.01)

    def one(key):
        return invert(key, GENERATOR, teacher, params, SUMMARY, AS_BATCH, GeneratorLoss(1.0, 0.1, 0.5), config)

    keys = jax.random.split(jax.random.key(0), 2)
    together, alone = jax.jit(jax.vmap(one))(keys), jax.jit(one)
    for member in range(2):
        jax.tree.map(
            lambda found, expected, member=member: np.testing.assert_allclose(
                found[member], expected, rtol=1e-4, atol=1e-5
            ),
            together,
            alone(keys[member]),
        )
    kernel = together.params["params"]["Linear_0"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.2  # five steps of 0.01 alone would leave less between them


def test_generators_train_for_as_many_steps_as_published_and_never_stop_early():
    assert (STEPS.epochs, STEPS.batch_size, STEPS.patience, STEPS.clip, STEPS.l2) == (500, 64, 0, 1.0, 1e-4)
    assert GeneratorLoss() == GeneratorLoss(metadata=1.0, activation=0.0, entropy=0.0)


@pytest.mark.parametrize("field", ["metadata", "activation", "entropy"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_weight_that_is_negative_or_not_finite_is_an_error_that_names_it(field, value):
    with pytest.raises(InputError, match=f"{field}: .*found {value}"):
        GeneratorLoss(**{field: value})
