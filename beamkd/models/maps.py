"""Layers over maps, [N, H, W, channels]: convolutions, normalisation, pooling.

On a CPU XLA takes tens of times as long for the gradients of its convolutions and pooling as for products of matrices
and sums of slices, which is what stands here in their place. Elsewhere XLA's own are right; `on_cpu` alone decides.
"""

import functools
from collections.abc import Iterator

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from beamkd.base import Array
from beamkd.models.layers import KEPT, Linear, on_cpu, repeat_rows, uniform_fan_in

TOGETHER = 2
"""Neighbours along a row whose values come from one product where maps have one channel."""

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
        shape = (self.width, self.width, inputs.shape[-1], self.features)
        init = uniform_fan_in(self.width**2 * inputs.shape[-1])
        maps = convolve(inputs, self.param("kernel", init, shape), self.stride)
        if not self.use_bias:
            return maps
        bias = self.param("bias", init, (self.features,))
        return _plus(maps, bias)


class PatchConv(nn.Module):
    """Convolution of patches that do not overlap, [N, H, W, in] to [N, ⌈H / width⌉, ⌈W / width⌉, features].

    Maps that are no multiple of `width` go on as zeros. Each value enters one product once, where a convolution whose
    windows overlap copies it `width`² times.
    """

    features: int
    width: int

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Convolve `inputs` [N, H, W, in]."""
        chex.assert_rank(inputs, 4)
        count, height, length, channels = inputs.shape
        padded = jnp.pad(inputs, ((0, 0), (0, -height % self.width), (0, -length % self.width), (0, 0)))
        rows, columns = -(-height // self.width), -(-length // self.width)
        patches = padded.reshape(count, rows, self.width, columns, self.width * channels).swapaxes(2, 3)
        return Linear(self.features)(patches.reshape(count, rows, columns, -1))


class Depthwise(nn.Module):
    """Convolution of each channel by itself, with zeros around, [N, H, W, C] to the same shape."""

    width: int = 3

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Convolve `inputs` [N, H, W, C]."""
        chex.assert_rank(inputs, 4)
        kernel = self.param("kernel", uniform_fan_in(self.width**2), (self.width, self.width, inputs.shape[-1]))
        if on_cpu():
            return _each_channel(inputs, kernel)
        return _convolved(inputs, kernel[:, :, None], 1, groups=inputs.shape[-1])


class Scale(nn.Module):
    """A scale and a shift for each channel, after a normalisation over groups of channels of each map.

    With `groups` of 0 nothing is normalised: such are published batch norms, whose running statistics are fixed.

    With `pool` there follow a rectifier and a `max_pool` of this width. Scaling keeps the order of values, or turns it
    where a scale is negative: so the greatest are found first, and only these are scaled.
    """

    groups: int = 0
    pool: int = 0

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Scale `inputs` [N, H, W, C]."""
        scales, shifts = self._scales(inputs)
        if not self.pool:
            return _scaled(inputs, scales, shifts)
        turn = jnp.where(scales < 0, -1.0, 1.0)[:, None, None]
        return nn.relu(_scaled(max_pool(turn * inputs, self.pool), jnp.abs(scales), shifts))

    def _scales(self, inputs: Array) -> tuple[Array, Array]:
        """Scales and shifts [N, C] of each map's channels."""
        count, channels = inputs.shape[0], inputs.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        shift = self.param("shift", nn.initializers.zeros, (channels,))
        if not self.groups:
            return repeat_rows(scale, count), repeat_rows(shift, count)
        places = inputs.shape[1] * inputs.shape[2]
        mean = self._of_groups(_sums(inputs) / places)
        variance = nn.relu(self._of_groups(_sums(jnp.square(inputs)) / places) - jnp.square(mean))
        scales = scale * jax.lax.rsqrt(variance + EPSILON)
        return scales, shift - mean * scales

    def _of_groups(self, values: Array) -> Array:
        """For each channel of [N, C] the mean over its group."""
        count, channels = values.shape
        means = values.reshape(count, self.groups, -1).mean(-1)
        return jnp.repeat(means, channels // self.groups, axis=1)


def convolve(maps: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolution with zeros around.

    Args:
      maps: [N, H, W, in].
      kernel: [width, width, in, out].
      stride: places from one window to the next.

    Returns:
      [N, ⌈H / stride⌉, ⌈W / stride⌉, out].
    """
    if not on_cpu():
        return _convolved(maps, kernel, stride)
    return checkpoint_name(_as_products(maps, kernel, stride), KEPT)


def _as_products(maps: Array, kernel: Array, stride: int) -> Array:
    """`convolve` as products of matrices."""
    if maps.shape[-1] == 1:
        return _of_one_channel(maps[..., 0], kernel[:, :, 0], stride)
    if stride == 1:
        return _same(maps, kernel, (len(kernel) - 1) // 2)
    # Blocks of stride x stride places as channels of one place, and the kernel likewise.
    before = (len(kernel) - 1) // 2
    front = -before % stride
    back = -(len(kernel) + front) % stride
    wide = jnp.pad(kernel, ((front, back), (front, back), (0, 0), (0, 0)))
    return _same(_blocks(maps, stride), _blocks(wide[None], stride, 2)[0], (before + front) // stride)


def max_pool(maps: Array, width: int = 3) -> Array:
    """Greatest of each 3 x 3 or 2 x 2 places, two apart, of maps [N, H, W, C].

    Of 3 x 3 the middle ones are two apart, and every place is among them; 2 x 2 do not overlap, and an odd place at the
    end is left out.
    """
    if width == 2:
        return checkpoint_name(_greater_of_pairs(_greater_of_pairs(maps, 1), 2), KEPT)
    if not on_cpu():
        around = ((0, 0), (1, 1), (1, 1), (0, 0))  # which XLA makes the pooling's own; converters lose that
        return nn.max_pool(jnp.pad(maps, around, constant_values=-jnp.inf), window_shape=(3, 3), strides=(2, 2))
    return checkpoint_name(_max_of_three(_max_of_three(maps, 1), 2), KEPT)


def greatest(maps: Array) -> Array:
    """Greatest over the places of maps [N, H, W, C], [N, C]; the first of several has the gradient.

    JAX divides that of `max` by how many are equal to it: by none where XLA computes them again and rounds otherwise.
    """
    return _greatest(maps.reshape(maps.shape[0], -1, maps.shape[-1]))


@jax.custom_vjp
def _greatest(rows: Array) -> Array:
    return rows.max(1)


def _greatest_forward(rows: Array) -> tuple[Array, Array]:
    return rows.max(1), jnp.arange(rows.shape[1])[:, None] == rows.argmax(1)[:, None]


_greatest.defvjp(_greatest_forward, lambda first, gradient: (jnp.where(first, gradient[:, None], 0),))


def _convolved(maps: Array, kernel: Array, stride: int, groups: int = 1) -> Array:
    """XLA's own convolution."""
    before = (len(kernel) - 1) // 2
    padding = [(before, len(kernel) - 1 - before)] * 2
    names = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(
        maps, kernel, strides, padding, dimension_numbers=names, feature_group_count=groups
    )


def _blocks(maps: Array, size: int, inner: int = 1) -> Array:
    """Blocks of places as one place each, [N, ⌈H / size⌉, ⌈W / size⌉, size · size · C]; zeros fill them up.

    The last `inner` axes are those within a place, of which the first grows.
    """
    count, height, width, *within = maps.shape
    maps = jnp.pad(maps, ((0, 0), (0, -height % size), (0, -width % size), *[(0, 0)] * inner))
    split = maps.reshape(count, -(-height // size), size, -(-width // size), size, *within)
    first, *others = within
    return split.swapaxes(2, 3).reshape(count, *split.shape[1:4:2], size * size * first, *others)


def _of_one_channel(maps: Array, kernel: Array, stride: int) -> Array:
    """Convolution of [N, H, W] and [width, width, out].

    Windows of single numbers are copied fastest place by place. Neighbours along a row share most of theirs: `TOGETHER`
    of them have one, and a product with as many kernels side by side.
    """
    count, height, length = maps.shape
    width, _, out = kernel.shape
    before, rows, columns = (width - 1) // 2, -(-height // stride), -(-length // stride)
    step, reach, groups = stride * TOGETHER, width + stride * (TOGETHER - 1), -(-columns // TOGETHER)
    down, right = _multiple((rows - 1) * stride + width, stride), _multiple((groups - 1) * step + reach, step)
    after = (max(down - before - height, 0), max(right - before - length, 0))
    padded = jnp.pad(maps, ((0, 0), (before, after[0]), (before, after[1])))[:, :down, :right]
    blocks = padded.reshape(count, down // stride, stride, right // step, step).transpose(2, 4, 0, 1, 3)
    windows = [
        blocks[i % stride, j % step, :, i // stride : i // stride + rows, j // step : j // step + groups]
        for i in range(width)
        for j in range(reach)
    ]
    beside = [(stride * place, reach - width - stride * place) for place in range(TOGETHER)]
    kernels = jnp.stack([jnp.pad(kernel, ((0, 0), sides, (0, 0))) for sides in beside], 2)
    found = jnp.einsum(
        "tp,to->po", jnp.stack(windows).reshape(width * reach, -1), kernels.reshape(width * reach, TOGETHER * out)
    )
    return found.reshape(count, rows, groups * TOGETHER, out)[:, :, :columns]


def _multiple(least: int, of: int) -> int:
    return -(-least // of) * of


def _shifts(maps: Array, width: int, before: int) -> Iterator[Array]:
    """What stands at each place of the window around every place, [N, H, W, C] each; zeros stand around the maps."""
    _, height, length, _ = maps.shape
    around = (before, width - 1 - before)
    padded = jnp.pad(maps, ((0, 0), around, around, (0, 0)))
    return (padded[:, i : i + height, j : j + length] for i in range(width) for j in range(width))


def _windows(maps: Array, width: int, before: int) -> Array:
    """The window around every place, [N · H · W, width · width · C]."""
    windows = jnp.concatenate([*_shifts(maps, width, before)], axis=-1)
    return windows.reshape(-1, windows.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _same(maps: Array, kernel: Array, before: int) -> Array:
    """Convolution of [N, H, W, in] and [width, width, in, out] to [N, H, W, out]: one product of matrices.

    A window begins `before` places ahead of its own.
    """
    width, _, into, out = kernel.shape
    if out >= into:
        found = _windows(maps, width, before) @ kernel.reshape(-1, out)
        return found.reshape(*maps.shape[:3], out)
    # Of few outputs there is less to move than of many inputs.
    products = maps.reshape(-1, into) @ kernel.transpose(2, 0, 1, 3).reshape(into, -1)
    moved = _shifts(products.reshape(*maps.shape[:3], -1), width, before)
    return sum(part[..., place * out : (place + 1) * out] for place, part in enumerate(moved))


def _same_forward(maps: Array, kernel: Array, before: int) -> tuple[Array, tuple[Array, Array]]:
    return _same(maps, kernel, before), (maps, kernel)


def _same_backward(before: int, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    maps, kernel = kept
    width, _, into, out = kernel.shape
    windows = _windows(gradient, width, width - 1 - before)
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    back = (windows @ flipped.reshape(-1, into)).reshape(maps.shape)
    if out >= into:
        weights = _windows(maps, width, before).T @ gradient.reshape(-1, out)
        return back, weights.reshape(kernel.shape)
    weights = (windows.T @ maps.reshape(-1, into)).reshape(flipped.shape)
    return back, weights[::-1, ::-1].swapaxes(2, 3)


_same.defvjp(_same_forward, _same_backward)


@jax.custom_vjp
def _each_channel(maps: Array, kernel: Array) -> Array:
    """Convolution of each channel of [N, H, W, C] with its own part of [width, width, C]."""
    width, _, channels = kernel.shape
    weights = kernel.reshape(-1, channels)
    return sum(map(jnp.multiply, _shifts(maps, width, (width - 1) // 2), weights))


def _each_channel_forward(maps: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _each_channel(maps, kernel), (maps, kernel)


def _each_channel_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    maps, kernel = kept
    width, _, channels = kernel.shape
    before = (width - 1) // 2
    weights = kernel[::-1, ::-1].reshape(-1, channels)
    back = sum(map(jnp.multiply, _shifts(gradient, width, width - 1 - before), weights))
    found = [_sums(shift * gradient).sum(0) for shift in _shifts(maps, width, before)]
    return back, jnp.stack(found).reshape(kernel.shape)


_each_channel.defvjp(_each_channel_forward, _each_channel_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_of_three(maps: Array, axis: int) -> Array:
    """Of every second place along an axis the greatest of itself and its neighbours."""
    before, here, after = _three(maps, axis)
    return jnp.maximum(jnp.maximum(before, here), after)


def _three(maps: Array, axis: int) -> tuple[Array, Array, Array]:
    """What stands before, at and behind every second place along an axis; -inf at the ends."""
    length = maps.shape[axis]
    padding = [(0, length % 2 if number == axis else 0) for number in range(maps.ndim)]
    maps = jnp.pad(maps, padding, constant_values=-jnp.inf)
    pairs = maps.reshape(*maps.shape[:axis], -1, 2, *maps.shape[axis + 1 :])
    here, after = (jax.lax.index_in_dim(pairs, place, axis + 1, keepdims=False) for place in (0, 1))
    return _moved(after, axis, 1, -jnp.inf), here, after


def _moved(maps: Array, axis: int, by: int, fill: float) -> Array:
    """Everything so many places further along an axis, or back; `fill` comes in."""
    padding = [(0, 0, 0)] * maps.ndim
    padding[axis] = (by, -by, 0)
    return jax.lax.pad(maps, jnp.asarray(fill, maps.dtype), padding)


def _greater_of_pairs(maps: Array, axis: int) -> Array:
    """The greater of each two neighbours along an axis; of equal ones the first has the gradient (`greatest`)."""
    pairs = maps.shape[axis] // 2
    ends = jax.lax.slice_in_dim(maps, 0, 2 * pairs, axis=axis)
    pairs = ends.reshape(*maps.shape[:axis], pairs, 2, *maps.shape[axis + 1 :])
    here, after = (jax.lax.index_in_dim(pairs, place, axis + 1, keepdims=False) for place in (0, 1))
    return jnp.where(here >= after, here, after)


def _max_forward(maps: Array, axis: int) -> tuple[Array, Array]:
    return _max_of_three(maps, axis), maps


def _max_backward(axis: int, maps: Array, gradient: Array) -> tuple[Array]:
    """The gradient of a maximum goes to where it stands, the first place if to several."""
    before, here, after = _three(maps, axis)
    to_before = (before >= here) & (before >= after)
    to_here = ~to_before & (here >= after)
    back_here = jnp.where(to_here, gradient, 0)
    back_after = jnp.where(to_before | to_here, 0, gradient) + _moved(jnp.where(to_before, gradient, 0), axis, -1, 0)
    pairs = jnp.stack([back_here, back_after], axis + 1)
    joined = pairs.reshape(*maps.shape[:axis], -1, *maps.shape[axis + 1 :])
    return (jax.lax.slice_in_dim(joined, 0, maps.shape[axis], axis=axis),)


_max_of_three.defvjp(_max_forward, _max_backward)


def _sums(maps: Array) -> Array:
    """Sums over the places of maps [N, H, W, C], [N, C]: a product with ones, as of `repeat_rows`, for each map."""
    count, height, width, channels = maps.shape
    ones, rows = jnp.ones((count, 1, height * width), maps.dtype), maps.reshape(count, -1, channels)
    return jax.lax.dot_general(ones, rows, (((2,), (1,)), ((0,), (0,))))[:, 0]


@jax.custom_vjp
def _scaled(maps: Array, scales: Array, shifts: Array) -> Array:
    """Maps [N, H, W, C] times scales [N, C] plus shifts [N, C]."""
    return maps * scales[:, None, None] + shifts[:, None, None]


def _scaled_forward(maps: Array, scales: Array, shifts: Array) -> tuple[Array, tuple[Array, Array]]:
    return _scaled(maps, scales, shifts), (maps, scales)


def _scaled_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    maps, scales = kept
    return gradient * scales[:, None, None], _sums(gradient * maps), _sums(gradient)


_scaled.defvjp(_scaled_forward, _scaled_backward)


@jax.custom_vjp
def _plus(maps: Array, bias: Array) -> Array:
    """Maps [N, H, W, C] plus a bias [C]."""
    return maps + bias


_plus.defvjp(lambda maps, bias: (maps + bias, None), lambda _, gradient: (gradient, _sums(gradient).sum(0)))
