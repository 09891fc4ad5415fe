"""Networks of any sensors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError, Model
from beamkd.data import forward_of, sensor_batch
from beamkd.models import ENCODERS, CnnGruTeacher, SensorStudent, SensorTeacher, count_weights, layers

SMALL = {"channels": (8, 8), "embed": 4, "hidden": 5, "dropout": 0.5, "beams": 6}
SHAPES = {"lidar": (30,), "radar": (16, 8), "doppler": (8, 16), "masks": (32, 32), "gps": (2,)}
CASES = [(name,) for name in SHAPES] + [("lidar", "gps"), ("radar", "lidar", "masks")]
OBSERVED, FUTURE = 3, 2


def seen(names):
    rng = np.random.default_rng(0)
    return {name: rng.random((2, OBSERVED, *SHAPES[name])).astype(np.float32) for name in names}


def as_given(frames):
    return frames if len(frames) > 1 else next(iter(frames.values()))


@pytest.fixture(params=CASES, ids="+".join, scope="module")
def case(request):
    module = SensorStudent(request.param, **SMALL)
    frames = seen(request.param)
    return module, frames, jax.jit(module.init)(jax.random.key(0), as_given(frames))


def test_future_slots_are_zero_frames_in_outputs_and_gradients(case):
    module, frames, params = case
    padded = {name: np.pad(leaf, [(0, 0), (0, FUTURE), *[(0, 0)] * (leaf.ndim - 2)]) for name, leaf in frames.items()}

    def objective(params, frames, future):
        output = module.apply(params, as_given(frames), future=future)
        return jnp.sin(output.logits).sum() + jnp.square(output.features).sum(), output

    step = jax.jit(jax.value_and_grad(objective, (0, 1), has_aux=True), static_argnums=2)
    (_, output), (weights, inputs) = step(params, frames, FUTURE)
    (_, expected), (expected_weights, expected_inputs) = step(params, padded, 0)
    assert output.logits.shape == (2, OBSERVED + FUTURE, 6) and output.features.shape == (2, 5)
    assert output.layers["codes"].shape == (2, OBSERVED, 4)
    assert output.layers["states"].shape == (2, OBSERVED + FUTURE, 5)
    np.testing.assert_allclose(output.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(output.layers["codes"], expected.layers["codes"][:, :OBSERVED], atol=1e-5)
    for found, wanted in zip(jax.tree.leaves(weights), jax.tree.leaves(expected_weights), strict=True):
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    for name, found in inputs.items():
        assert np.abs(found).max() > 0
        np.testing.assert_allclose(found, expected_inputs[name][:, :OBSERVED], rtol=1e-3, atol=1e-4)


def test_it_is_a_function_of_batches_that_have_its_sensors_and_more_frames(case):
    module, frames, params = case
    model = Model(module, params, {name: (OBSERVED - 1, *SHAPES[name]) for name in frames})
    batch = sensor_batch({**frames, "another": np.zeros((2, OBSERVED, 1))}, FUTURE)
    found = jax.jit(forward_of(model, predicted_only=True))(params, batch).logits
    late = as_given({name: leaf[:, 1:] for name, leaf in frames.items()})
    expected = jax.jit(module.apply, static_argnames="future")(params, late, future=FUTURE).logits
    np.testing.assert_allclose(found, expected[:, -FUTURE - 1 :], atol=1e-5)


def test_members_are_independent_and_dropout_follows_its_key():
    module, frames = SensorTeacher(("lidar", "gps"), **SMALL), seen(("lidar", "gps"))
    stacked = jax.jit(jax.vmap(module.init, (0, None)))(jax.random.split(jax.random.key(0), 2), frames)

    def logits(params, key):
        options = {} if key is None else {"train": True, "rngs": {"dropout": key}}
        return module.apply(params, frames, future=FUTURE, slots=FUTURE + 1, **options).logits

    together = jax.jit(jax.vmap(lambda params: logits(params, None)))(stacked)
    alone = jax.jit(lambda params: logits(params, None))(jax.tree.map(lambda leaf: leaf[1], stacked))
    assert together.shape == (2, 2, FUTURE + 1, 6)
    np.testing.assert_allclose(together[1], alone, atol=1e-5)
    dropped = jax.jit(jax.vmap(logits, (None, 0)))(
        jax.tree.map(lambda leaf: leaf[1], stacked), jax.random.split(jax.random.key(1), 2)
    )
    assert np.abs(dropped[0] - alone).max() > 1e-3 and np.abs(dropped[0] - dropped[1]).max() > 1e-3


def test_each_of_several_sensors_counts_and_their_order_in_the_mapping_does_not():
    names = ("radar", "lidar", "masks")
    module, frames = SensorStudent(names, **SMALL), seen(names)
    params = jax.jit(module.init)(jax.random.key(0), frames)
    apply = jax.jit(lambda frames: module.apply(params, frames).logits)
    before = apply(frames)
    np.testing.assert_array_equal(apply(dict(reversed(frames.items()))), before)
    for name in names:
        blank = apply({**frames, name: np.zeros_like(frames[name])})
        assert np.abs(blank - before).max() > 1e-4, name


def test_of_scans_the_teacher_is_the_published_one(monkeypatch):
    monkeypatch.setattr(layers, "PIECE", 2)
    frames = seen(("lidar",))["lidar"]
    found, published = SensorTeacher(**SMALL), CnnGruTeacher(**SMALL)
    params = jax.jit(published.init)(jax.random.key(0), frames)
    own = params["params"]
    encoder = {name: own[name] for name in ("Conv1d_0", "Conv1d_1", "Linear_0")}
    moved = {"params": {"lidar": encoder, "Gru_0": own["_Tail_0"]["Gru_0"], "Linear_0": own["_Tail_0"]["Linear_0"]}}
    expected = jax.jit(published.apply, static_argnames="future")(params, frames, future=FUTURE)
    output = jax.jit(found.apply, static_argnames="future")(moved, frames, future=FUTURE)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), output, expected)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_student_is_far_smaller_than_a_teacher(name):
    shape = {"lidar": (216,), "radar": (256, 64), "doppler": (128, 64), "masks": (224, 224), "gps": (2,)}[name]
    frame = jax.ShapeDtypeStruct((1, 1, *shape), jnp.float32)
    student, teacher = (
        count_weights(jax.eval_shape(module((name,)).init, jax.random.key(0), frame))
        for module in (SensorStudent, SensorTeacher)
    )
    assert student < 15_000 and teacher > 5 * student


@pytest.mark.parametrize(
    ("sensors", "given", "told"),
    [
        (("sonar",), ("lidar",), r"out of lidar, .*gps, found \('sonar',\)"),
        ((), ("lidar",), r"found \(\)"),
        (("lidar", "gps"), ("lidar", "masks"), "those of lidar, gps, found lidar, masks"),
        (("lidar", "gps"), ("lidar",), "those of lidar, gps, found lidar"),
    ],
)
def test_unknown_and_missing_sensors_are_refused(sensors, given, told):
    with pytest.raises(InputError, match=told):
        SensorStudent(sensors, **SMALL).init(jax.random.key(0), as_given(seen(given)))
