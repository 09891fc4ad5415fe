"""The one place where means are taken over what is there."""

import chex
import jax.numpy as jnp

from beamkd.base import Array


def masked_mean(values: Array, mask: Array, axis: int | None = None) -> Array:
    """Mean of `values` [...] where `mask` holds, over all axes or one; 0 where it holds nowhere.

    Args:
      values: [...].
      mask: [...] of the same number of axes, or fewer: it then covers the first ones.
      axis: the axis to average over, all if None.
    """
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape)
    chex.assert_equal_shape([values, mask])
    # The inner `where` keeps an infinity outside the mask from turning the gradient into NaN.
    total = jnp.where(mask, values, 0).sum(axis)
    return total / jnp.maximum(mask.sum(axis), 1)
