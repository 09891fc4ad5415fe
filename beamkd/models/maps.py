"""Layers over maps, [N, H, W, channels]: convolutions, normalisation, pooling."""

import functools

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import Array
from beamkd.models.layers import Linear, uniform_fan_in

EPSILON = 1e-5
"""Added to a variance before its root is divided by, as in PyTorch."""


class Conv2d(nn.Module):
    """Convolution of maps with zeros around them, [N, H, W, in] to [N, ⌈H / stride⌉, ⌈W / stride⌉, features]."""

    features: int
    width: int = 3
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Convolve `inputs` [N, H, W, in]."""
        chex.assert_rank(inputs, 4)
        taps = [tap for row in shifted(inputs, self.width, self.stride) for tap in row]
        return Linear(self.features, self.use_bias)(jnp.concatenate(taps, axis=-1))


class Depthwise(nn.Module):
    """Convolution of each channel by itself, with zeros around, [N, H, W, C] to the same shape."""

    width: int = 3

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Convolve `inputs` [N, H, W, C]."""
        chex.assert_rank(inputs, 4)
        kernel = self.param("kernel", uniform_fan_in(self.width**2), (self.width, self.width, inputs.shape[-1]))
        rows = enumerate(shifted(inputs, self.width, 1))
        return sum(tap * kernel[i, j] for i, row in rows for j, tap in enumerate(row))


class Scale(nn.Module):
    """A scale and a shift for each channel, after a normalisation over groups of channels of each map.

    With `groups` of 0 nothing is normalised: such are published batch norms, whose running statistics are fixed.
    """

    groups: int = 0

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Scale `inputs` [N, H, W, C]."""
        channels = inputs.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        shift = self.param("shift", nn.initializers.zeros, (channels,))
        if not self.groups:
            return inputs * scale + shift
        grouped = inputs.reshape(*inputs.shape[:3], self.groups, -1)
        centred = grouped - grouped.mean((1, 2, 4), keepdims=True)
        normal = centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 2, 4), keepdims=True) + EPSILON)
        return normal.reshape(inputs.shape) * scale + shift


def shifted(maps: Array, width: int, stride: int) -> list[list[Array]]:
    """For each row and column of a `width` x `width` window, what stands there: [N, ⌈H / stride⌉, ⌈W / stride⌉, C].

    Windows are centred at every `stride`-th place; around the maps [N, H, W, C] stand zeros.
    """
    _, height, length, _ = maps.shape
    before = (width - 1) // 2
    padded = jnp.pad(maps, ((0, 0), *[(before, width - 1 - before)] * 2, (0, 0)))
    return [[padded[:, i : i + height : stride, j : j + length : stride] for j in range(width)] for i in range(width)]


def max_pool(maps: Array) -> Array:
    """Greatest of each 3 x 3 places, two apart, of maps [N, H, W, C] that are nowhere negative."""
    rows = shifted(maps, 3, 2)
    return functools.reduce(jnp.maximum, (tap for row in rows for tap in row))
