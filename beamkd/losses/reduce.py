"""The one place where a batch is averaged: over what is there, and over all devices that share it.

`axis_name` names the axis of devices that a batch is divided over, as `jax.pmap`, `jax.vmap` and
`beamkd.training.map_members` bind it. Sums and counts are then those of all of them.
"""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import Array


def masked_mean(
    values: Array, mask: Array | None = None, axis: int | None = None, axis_name: str | None = None
) -> Array:
    """Mean of `values` [...] where `mask` holds, over all axes or one; 0 where it holds nowhere.

    Args:
      values: [...].
      mask: [...] of the same number of axes, or fewer: it then covers the first ones. None: all are there.
      axis: the axis to average over, all if None.
      axis_name: the axis of devices that share the batch; see above.
    """
    total, count = _sum(values, mask, axis, axis_name)
    return total / jnp.maximum(count, 1)


def masked_variance(values: Array, mask: Array | None = None, axis_name: str | None = None) -> Array:
    """Unbiased variance over the first axis, of two rows or more; arguments as in `masked_mean`."""
    if mask is None and axis_name is None:
        return values.var(0, ddof=1)
    squares = jnp.square(values - masked_mean(values, mask, 0, axis_name))
    total, count = _sum(squares, mask, 0, axis_name)
    return total / jnp.maximum(count - 1, 1)


def _sum(values: Array, mask: Array | None, axis: int | None, axis_name: str | None) -> tuple[Array, Array | int]:
    """Sum of what is there on all devices, and how many values that is."""
    if mask is None:
        total = values.sum(axis)
        count = values.size // total.size
    else:
        mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape)
        chex.assert_equal_shape([values, mask])
        # The inner `where` keeps an infinity outside the mask from turning the gradient into NaN.
        total, count = jnp.where(mask, values, 0).sum(axis), mask.sum(axis)
    return (total, count) if axis_name is None else jax.lax.psum((total, count), axis_name)
