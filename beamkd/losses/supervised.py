"""Losses against measured beams, per example."""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of the softmax of `logits`, in nats; 0 where the label is missing.

    Args:
      logits: [..., M].
      labels: [...] integer, from 0; negative where missing.

    Returns:
      [...].
    """
    return -_log_probability_of_label(logits, labels)


def focal(logits: Array, labels: Array, gamma: float = 2.0) -> Array:
    """Focal loss −(1 − p)^γ log p of the label's probability p (Lin et al., ICCV 2017); 0 where it is missing.

    Args:
      logits: [..., M].
      labels: [...] integer, from 0; negative where missing.
      gamma: γ; 0 gives the cross-entropy.

    Returns:
      [...].
    """
    log_probability = _log_probability_of_label(logits, labels)
    # 1 − p from log p without cancellation. At p = 1 a power below 1 has no gradient, hence the floor.
    remainder = jnp.maximum(-jnp.expm1(log_probability), jnp.finfo(log_probability.dtype).tiny)
    return -(remainder**gamma) * log_probability


def _log_probability_of_label(logits: Array, labels: Array) -> Array:
    chex.assert_equal_shape_prefix([logits, labels], labels.ndim)
    chex.assert_rank(logits, labels.ndim + 1)
    chex.assert_type([logits, labels], [float, int])
    labelled = labels >= 0
    index = jnp.where(labelled, labels, 0)[..., None]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), index, axis=-1)[..., 0]
    return jnp.where(labelled, chosen, 0)
