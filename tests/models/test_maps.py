"""Layers over maps: what stands for XLA's own operations on a CPU gives their values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from beamkd.models import Conv2d, maps
from beamkd.models.maps import Depthwise, Scale, convolve, greatest, max_pool


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def same_with_gradients(function, expected, *inputs):
    """Both give the same values, and the same gradients of a weighted sum of them."""
    found, back = jax.vjp(jax.jit(function), *inputs)
    wanted, wanted_back = jax.vjp(jax.jit(expected), *inputs)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    weights = normal(*found.shape, seed=9)
    for one, other in zip(back(weights), wanted_back(weights), strict=True):
        assert np.abs(other).max() > 1e-3
        np.testing.assert_allclose(one, other, atol=5e-5)


@pytest.mark.parametrize(
    ("size", "into", "out", "width", "stride"),
    [
        ((8, 6), 3, 5, 3, 1),
        ((7, 5), 4, 1, 7, 1),
        ((9, 7), 1, 4, 7, 2),
        ((6, 8), 1, 3, 3, 2),
        ((6, 8), 1, 3, 1, 2),
        ((5, 1), 1, 2, 5, 1),
        ((8, 9), 3, 2, 5, 2),
        ((6, 7), 2, 3, 3, 2),
    ],
)
def test_convolutions_have_the_values_and_gradients_of_xlas_own(size, into, out, width, stride):
    seen, kernel = normal(2, *size, into), normal(width, width, into, out, seed=1)

    def own(maps_, kernel):
        return maps._convolved(maps_, kernel, stride)

    same_with_gradients(lambda maps_, kernel: convolve(maps_, kernel, stride), own, seen, kernel)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_convolution_is_scipys_correlation_and_a_bias(stride, channels):
    seen, kernel, bias = normal(2, 8, 7, channels), normal(5, 5, channels, 3, seed=1), normal(3, seed=2)
    found = Conv2d(3, 5, stride).apply({"params": {"kernel": kernel, "bias": bias}}, seen)
    for number, frame in enumerate(seen):
        for out in range(3):
            sums = sum(correlate2d(frame[..., c], kernel[:, :, c, out], "same") for c in range(channels))
            np.testing.assert_allclose(found[number, ..., out], sums[::stride, ::stride] + bias[out], atol=1e-5)


def test_depthwise_is_scipys_correlation_of_each_channel_with_the_gradients_of_xlas():
    seen, kernel = normal(2, 6, 7, 4), normal(3, 3, 4, seed=1)
    found = Depthwise().apply({"params": {"kernel": kernel}}, seen)
    for channel in range(4):
        expected = correlate2d(seen[1, ..., channel], kernel[..., channel], "same")
        np.testing.assert_allclose(found[1, ..., channel], expected, atol=1e-5)

    def own(maps_, kernel):
        return maps._convolved(maps_, kernel[:, :, None], 1, groups=4)

    same_with_gradients(maps._each_channel, own, seen, kernel)


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 2)])
def test_pooling_takes_the_greatest_of_three_by_three_and_gives_it_the_gradient(size):
    seen = normal(2, *size, 3)
    around = np.pad(seen, ((0, 0), (1, 2), (1, 2), (0, 0)), constant_values=-np.inf)
    rows, columns = (-(-length // 2) for length in size)
    expected = np.zeros((2, rows, columns, 3), np.float32)
    back, weights = np.zeros(around.shape, np.float32), normal(*expected.shape, seed=1)
    for place in np.ndindex(expected.shape):
        example, row, column, channel = place
        window = around[example, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3, channel]
        expected[place] = window.max()
        i, j = np.unravel_index(window.argmax(), window.shape)
        back[example, 2 * row + i, 2 * column + j, channel] += weights[place]
    found, gradient = jax.vjp(jax.jit(max_pool), seen)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(gradient(weights)[0], back[:, 1 : 1 + size[0], 1 : 1 + size[1]], atol=1e-6)


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 5)])
def test_pooling_by_two_takes_the_greatest_of_two_by_two_and_leaves_out_an_odd_end(size):
    seen, (rows, columns) = normal(2, *size, 3), (length // 2 for length in size)
    weights = normal(2, rows, columns, 3, seed=1)
    expected, back = np.zeros_like(weights), np.zeros_like(seen)
    for place in np.ndindex(expected.shape):
        example, row, column, channel = place
        window = seen[example, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
        expected[place] = window.max()
        i, j = np.unravel_index(window.argmax(), window.shape)
        back[example, 2 * row + i, 2 * column + j, channel] = weights[place]
    found, gradient = jax.vjp(jax.jit(lambda maps: max_pool(maps, 2)), seen)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(gradient(weights)[0], back)


def test_pooling_gives_a_gradient_once_where_several_are_greatest():
    gradient = jax.jit(jax.grad(lambda seen: max_pool(seen).sum()))(np.ones((1, 8, 8, 1), np.float32))
    assert gradient.sum() == 16 and set(np.unique(gradient)) <= {0, 1, 2, 4}


@pytest.mark.parametrize("groups", [1, 2])
def test_groups_of_channels_are_normalised_over_each_map(groups):
    seen, scale, shift = 3 + 2 * normal(3, 5, 4, 6), normal(6, seed=1), normal(6, seed=2)

    def expected(seen, scale, shift):
        split = seen.reshape(3, 5, 4, groups, -1)
        centred = split - split.mean((1, 2, 4), keepdims=True)
        normal = centred / jnp.sqrt(jnp.square(centred).mean((1, 2, 4), keepdims=True) + maps.EPSILON)
        return normal.reshape(seen.shape) * scale + shift

    def found(seen, scale, shift):
        return Scale(groups).apply({"params": {"scale": scale, "shift": shift}}, seen)

    same_with_gradients(found, expected, seen, scale, shift)


@pytest.mark.parametrize(("groups", "width"), [(0, 3), (1, 3), (2, 3), (1, 2)])
def test_what_is_pooled_before_it_is_scaled_is_what_would_be_pooled_behind(groups, width):
    seen, scale, shift = 1 + 2 * normal(3, 7, 8, 6), normal(6, seed=1), normal(6, seed=2)
    assert (scale < 0).any() and (scale > 0).any()

    def scaled(seen, scale, shift, **pool):
        return Scale(groups, **pool).apply({"params": {"scale": scale, "shift": shift}}, seen)

    def expected(seen, scale, shift):
        return max_pool(jax.nn.relu(scaled(seen, scale, shift)), width)

    same_with_gradients(functools.partial(scaled, pool=width), expected, seen, scale, shift)


def test_without_groups_channels_are_scaled_and_shifted_alone():
    seen, scale, shift = normal(2, 3, 4, 5), normal(5, seed=1), normal(5, seed=2)

    def found(seen, scale, shift):
        return Scale(0).apply({"params": {"scale": scale, "shift": shift}}, seen)

    same_with_gradients(found, lambda seen, scale, shift: seen * scale + shift, seen, scale, shift)


def test_a_map_without_anything_is_normalised_to_its_shift():
    found = Scale(1).apply({"params": {"scale": jnp.ones(2), "shift": jnp.array([3.0, 4.0])}}, jnp.zeros((1, 3, 3, 2)))
    np.testing.assert_array_equal(found[0, 0, 0], [3, 4])


@pytest.mark.parametrize("module", [Conv2d(3, 3, 2), Depthwise(), Scale(1)], ids=lambda module: type(module).__name__)
def test_layers_of_several_members_are_those_of_each(module):
    seen = normal(2, 6, 6, 4)
    params = jax.vmap(module.init, (0, None))(jax.random.split(jax.random.key(0), 2), seen)

    def weighted(params):
        return jnp.sin(module.apply(params, seen)).sum()

    together = jax.jit(jax.vmap(jax.grad(weighted)))(params)
    for member in range(2):
        alone = jax.jit(jax.grad(weighted))(jax.tree.map(lambda leaf, m=member: leaf[m], params))
        for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(one[member], other, atol=1e-4)


def test_the_greatest_over_places_has_the_gradient_the_first_of_several():
    same_with_gradients(greatest, lambda maps: maps.max((1, 2)), normal(3, 4, 5, 2))
    equal = jax.grad(lambda maps: (greatest(maps) * jnp.array([2.0, 3.0])).sum())(jnp.ones((1, 2, 3, 2)))
    np.testing.assert_array_equal(equal[0].reshape(6, 2), [[2, 3], *[[0, 0]] * 5])
