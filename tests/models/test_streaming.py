"""Networks that take frames as they come, against the same networks of windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Model, as_taken
from beamkd.models import (
    CnnGruTeacher,
    CollaborativeStudent,
    CollaborativeTeacher,
    GruStudent,
    GruTeacher,
    LongTermStudent,
    LongTermTeacher,
    SensorTeacher,
    streaming,
)
from beamkd.models.layers import as_convolutions
from beamkd.training import flops

LIDAR, MASKS, RADAR, GPS = {"lidar": (8, 24)}, {"masks": (8, 32, 32)}, {"radar": (8, 32, 16)}, {"gps": (3, 2)}
NETWORKS = [
    (GruStudent(), LIDAR),
    (GruTeacher(), LIDAR),
    (CnnGruTeacher(), LIDAR),
    (LongTermStudent(channels=(3, 4, 5, 6)), MASKS),
    (LongTermTeacher(channels=(2, 2, 2, 2, 2), dense=(8, 8)), MASKS),
    (CollaborativeStudent(channels=(3, 4, 5)), MASKS),
    (CollaborativeTeacher(channels=(2, 2, 2, 2, 2), dense=(8, 8)), MASKS),
    (SensorTeacher(sensors=("gps",)), GPS),
    (SensorTeacher(sensors=("lidar", "radar")), LIDAR | RADAR),
]


@pytest.fixture(autouse=True)
def soon_compiled():
    """Convolutions of the formulas: as a CPU computes them fastest they compile for longer."""
    with as_convolutions():
        yield


@pytest.fixture(params=NETWORKS, ids=lambda case: f"{type(case[0]).__name__}, {'+'.join(case[1])}")
def model(request):
    module, inputs = request.param
    examples = {name: jnp.ones((1, *shape)) for name, shape in inputs.items()}
    return Model(module, jax.jit(module.init)(jax.random.key(0), as_taken(examples)), inputs)


def drive(model, frames):
    """Random frames of two drives, by sensor [2, frames, ...]."""
    rng = np.random.default_rng(0)
    return {name: rng.random((2, frames, *shape[1:]), np.float32) for name, shape in model.inputs.items()}


def windows_logits(model, windows):
    apply = jax.jit(lambda params, windows: model.module.apply(params, windows, future=3, slots=4).logits)
    return apply(model.params, as_taken(windows))


def test_logits_are_those_of_windows_over_a_whole_drive(model):
    (length,) = {shape[0] for shape in model.inputs.values()}
    seen = drive(model, length + 4)
    stream = streaming(model)
    step = jax.jit(stream.step)
    state = jax.jit(stream.start, static_argnums=1)(model.params, 2)
    for last in range(length + 4):
        state, logits = step(model.params, state, as_taken({name: values[:, last] for name, values in seen.items()}))
        np.testing.assert_array_equal(state.seen, last + 1)
        lacking = max(length - last - 1, 0)  # frames in which nothing has moved yet
        window = {
            name: np.pad(values[:, max(last + 1 - length, 0) : last + 1], [(0, 0), (lacking, 0), *[(0, 0)] * rest])
            for name, values in seen.items()
            for rest in [values.ndim - 2]
        }
        expected = windows_logits(model, window)
        np.testing.assert_allclose(logits, expected, atol=1e-6 * max(1, np.abs(expected).max()))
        assert logits.shape == (2, 4, 64)


def test_only_the_new_frame_is_encoded():
    """The operations of a step grow by those of a frame's code where frames do, not by those of a window's."""

    def operations(rays):
        module = GruTeacher()
        model = Model(module, module.init(jax.random.key(0), jnp.ones((1, 8, rays))), {"lidar": (8, rays)})
        stream = streaming(model)
        state = stream.start(model.params)
        return flops(stream.step, model.params, state, jnp.ones((1, rays)))

    grown = operations(400) - operations(200)
    assert 0 < grown < 5 * 2 * 200 * 64  # the frame, and the all-zero one, which is encoded once more for later slots
