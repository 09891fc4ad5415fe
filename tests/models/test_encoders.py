"""Encoders of frames against NumPy, and what they must let through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.models import ENCODERS
from beamkd.models.encoders import NEAR_BINS, standard_logarithm
from beamkd.models.maps import PatchConv

SHAPES = {"lidar": (40,), "radar": (NEAR_BINS + 8, 16), "doppler": (24, 16), "masks": (32, 40), "gps": (2,)}
RNG = np.random.default_rng(0)


def frames(name, count=3):
    return RNG.random((count, *SHAPES[name])).astype(np.float32)


def encoder(name, channels=(2, 3)):
    return ENCODERS[name](channels=channels, embed=5)


@pytest.mark.parametrize(("height", "length", "width"), [(6, 9, 3), (7, 4, 3), (5, 5, 1), (2, 3, 4)])
def test_a_patch_convolution_is_a_sum_over_each_patch(height, length, width):
    maps, kernel, bias = (
        RNG.normal(size=(2, height, length, 2)),
        RNG.normal(size=(width, width, 2, 3)),
        RNG.normal(size=3),
    )
    rows, columns = -(-height // width), -(-length // width)
    expected = np.zeros((2, rows, columns, 3)) + bias
    for i in range(height):
        for j in range(length):
            expected[:, i // width, j // width] += maps[:, i, j] @ kernel[i % width, j % width]
    params = {"params": {"Linear_0": {"kernel": kernel.reshape(-1, 3), "bias": bias}}}
    params, given = jax.tree.map(jnp.float32, (params, maps))
    found = jax.jit(PatchConv(3, width).apply)(params, given)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_encoder_is_tried():
    assert SHAPES.keys() == ENCODERS.keys()


@pytest.mark.parametrize("name", SHAPES)
def test_a_frame_has_a_code_of_its_own_under_jit_and_vmap_and_every_weight_learns(name):
    module, given = encoder(name), frames(name)
    stacked = jax.jit(jax.vmap(module.init, (0, None)))(jax.random.split(jax.random.key(0), 2), given)

    def objective(params, given):
        codes = module.apply(params, given)
        return jnp.sin(codes).sum(), codes

    step = jax.jit(jax.vmap(jax.value_and_grad(objective, (0, 1), has_aux=True), (0, None)))
    (_, codes), (weights, inputs) = step(stacked, given)
    assert codes.shape == (2, 3, 5) and np.abs(codes[0] - codes[1]).max() > 1e-3
    alone = jax.jit(module.apply)(jax.tree.map(lambda leaf: leaf[1], stacked), given[2:])
    np.testing.assert_allclose(alone[0], codes[1, 2], atol=1e-5)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(weights))
    assert np.isfinite(inputs).all() and np.abs(inputs).max() > 1e-4


@pytest.mark.parametrize("name", SHAPES)
def test_an_empty_frame_has_a_finite_code_and_gradient(name):
    module, empty = encoder(name), jnp.zeros((1, *SHAPES[name]))
    params = jax.jit(module.init)(jax.random.key(0), empty)
    codes, gradients = jax.jit(jax.value_and_grad(lambda given: jnp.square(module.apply(params, given)).sum()))(empty)
    assert np.isfinite(codes) and np.isfinite(gradients).all()


@pytest.mark.parametrize("name", ["lidar", "radar", "doppler", "masks"])
def test_codes_tell_where_something_is(name):
    module, shape = encoder(name, channels=(8, 8)), SHAPES[name]
    params = jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, *shape)))
    seen = np.zeros((2, *shape), np.float32)
    seen[(0, *[4] * len(shape))] = seen[(1, *[10] * len(shape))] = 1
    one, other = jax.jit(module.apply)(params, seen)
    assert np.abs(one - other).max() > 1e-4


def test_radar_and_doppler_maps_of_another_gain_look_alike_and_the_far_is_not_looked_at():
    maps = 1e3 * frames("radar")
    logarithms = np.log1p(maps)
    mean, spread = logarithms.mean((1, 2), keepdims=True), logarithms.std((1, 2), keepdims=True)
    found = jax.jit(standard_logarithm)(maps)
    np.testing.assert_allclose(found, (logarithms - mean) / spread, atol=1e-3)
    np.testing.assert_allclose(jax.jit(standard_logarithm)(-maps), found, atol=1e-6)
    module = encoder("radar")
    params = jax.jit(module.init)(jax.random.key(0), maps)
    far = maps.copy()
    far[:, NEAR_BINS:] = 7
    np.testing.assert_array_equal(module.apply(params, far), module.apply(params, maps))
