"""Networks that take frames as they come, against the same networks of windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError, as_taken
from beamkd.models import GruTeacher, PositionNetwork, streaming
from beamkd.models.layers import as_convolutions
from beamkd.training import flops
from tests.deploy.networks import NETWORKS, drive, initial, named


@pytest.fixture(autouse=True)
def soon_compiled():
    """Convolutions of the formulas: as a CPU computes them fastest they compile for longer."""
    with as_convolutions():
        yield


@pytest.fixture(params=NETWORKS, ids=named)
def model(request):
    return initial(*request.param)


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
        model = initial(GruTeacher(), {"lidar": (8, rays)})
        stream = streaming(model)
        return flops(stream.step, model.params, stream.start(model.params), jnp.ones((1, rays)))

    grown = operations(400) - operations(200)
    assert 0 < grown < 5 * 2 * 200 * 64  # the frame, and the all-zero one, which is encoded once more for later slots


def test_a_network_of_one_frame_is_refused():
    model = initial(PositionNetwork(), {"gps": (3, 2)})
    with pytest.raises(InputError, match="expected a network that encodes frames, found a PositionNetwork"):
        streaming(model).start(model.params)
