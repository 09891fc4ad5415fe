import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.models import Generator, count_weights


def test_generator_has_the_published_shapes_and_number_of_weights():
    made, params = jax.eval_shape(Generator().init_with_output, jax.random.key(0), jnp.zeros((3, 500)))
    assert made.shape == (3, 8, 216)
    assert count_weights(params) == 500 * 128 + 128 + 128 * 8 * 216 + 8 * 216


def test_scans_are_two_linear_layers_each_with_relu_so_never_negative():
    module = Generator(noise=6, hidden=5, frames=2, rays=7)
    noise = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    params = jax.jit(module.init)(jax.random.key(0), noise)
    made = jax.jit(module.apply)(params, noise)
    first, second = (jax.tree.map(np.asarray, params["params"][f"Linear_{n}"]) for n in (0, 1))
    hidden = np.maximum(noise @ first["kernel"] + first["bias"], 0)
    expected = np.maximum(hidden @ second["kernel"] + second["bias"], 0).reshape(4, 2, 7)
    assert made.min() == 0
    assert made.max() > 0
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_noise_of_a_single_example_is_refused():
    with pytest.raises(AssertionError):
        Generator(noise=6).init(jax.random.key(0), jnp.zeros(6))
