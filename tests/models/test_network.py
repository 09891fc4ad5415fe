import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Batch, Output
from beamkd.data import sensor_batch, sensor_input
from beamkd.models import CnnGruTeacher, GruStudent, network

MODULES = [GruStudent(embed=4, hidden=5, beams=6), CnnGruTeacher(channels=(2, 3), embed=4, hidden=5, beams=6)]
RAYS = 17


@pytest.fixture(params=MODULES, ids=lambda module: type(module).__name__)
def module(request):
    return request.param


@pytest.fixture
def batch():
    return sensor_batch(jax.random.uniform(jax.random.key(0), (3, 4, RAYS)), 2, "lidar")


@pytest.fixture
def params(module):
    return jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 4, RAYS)))


class Witness:
    """Stands for a module: multiplies its inputs by a weight, and notes the types it computes with."""

    def apply(self, params, inputs, future, train, rngs):
        self.seen = [inputs.dtype, params["weight"].dtype]
        return Output(logits=inputs * params["weight"], features=inputs[:, -1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_modules_compute_in_the_asked_type_and_answer_in_float32(dtype, batch):
    witness = Witness()
    output = network(witness, sensor_input("lidar"), dtype=dtype)({"weight": jnp.ones(1)}, batch)
    assert witness.seen == [dtype, dtype]
    assert output.logits.dtype == output.features.dtype == jnp.float32
    np.testing.assert_array_equal(output.logits, sensor_input("lidar")(batch).astype(dtype).astype(jnp.float32))


def test_float32_is_the_module_itself(module, params, batch):
    found = network(module, sensor_input("lidar"))(params, batch)
    expected = module.apply(params, sensor_input("lidar")(batch), future=2)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_bfloat16_is_near_float32_and_not_the_same(module, params, batch):
    exact = jax.jit(network(module, sensor_input("lidar")))(params, batch)
    rough = jax.jit(network(module, sensor_input("lidar"), dtype=jnp.bfloat16))(params, batch)
    assert (exact.logits != rough.logits).any()
    np.testing.assert_allclose(rough.logits, exact.logits, atol=0.03)
    np.testing.assert_allclose(rough.features, exact.features, atol=0.03)


def test_gradients_of_bfloat16_are_float32_and_near_the_exact_ones(module, params, batch):
    def gradient(dtype):
        forward = network(module, sensor_input("lidar"), dtype=dtype)

        def loss(params):
            return jnp.square(forward(params, batch, jax.random.key(2)).logits).mean()

        return jax.jit(jax.grad(loss))(params)

    exact, rough = gradient(jnp.float32), gradient(jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(rough)} == {jnp.dtype(jnp.float32)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02), rough, exact)


def test_whole_numbers_are_left_as_they_are():
    witness = Witness()
    batch = Batch(
        sensors={"beam": jnp.ones((1, 1, 1), jnp.int32)}, labels=jnp.zeros((1, 1), int), power=None, mask=None
    )
    network(witness, lambda batch: batch.sensors["beam"], dtype=jnp.bfloat16)({"weight": jnp.ones(1)}, batch)
    assert witness.seen == [jnp.int32, jnp.bfloat16]
