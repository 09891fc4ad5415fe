"""Metrics of beam prediction (DeepSense 6G challenge and received power), averaged over the first axis."""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import Array
from beamkd.losses import masked_mean

DBA_REACH = 5
"""Beams of distance from which on a prediction counts nothing in the DBA score."""


def top_k(logits: Array, labels: Array, k: int = 1) -> Array:
    """Share of the examples whose label is among the k best-scored beams.

    Args:
      logits: [B, ..., M].
      labels: [B, ...] integer, from 0; negative where missing.
      k: number of beams.

    Returns:
      [...], the mean over the B examples that have a label.
    """
    hit = (_best(logits, labels, k) == labels[..., None]).any(-1)
    return masked_mean(hit.astype(jnp.float32), labels >= 0, axis=0)


def dba(logits: Array, labels: Array, beams: int = 3) -> Array:
    """Distance-based accuracy of the DeepSense 6G challenge: mean of Y_1 … Y_K.

    Y_K = 1 − mean over examples of the least min(|beam − label| / 5, 1) of the K best-scored beams.

    Args:
      logits: [B, ..., M].
      labels: [B, ...] integer, from 0; negative where missing.
      beams: K, 3 in the challenge.

    Returns:
      [...], over the B examples that have a label.
    """
    distance = jnp.abs(_best(logits, labels, beams) - labels[..., None])
    nearest = jax.lax.cummin(jnp.minimum(distance / DBA_REACH, 1.0), axis=distance.ndim - 1)
    return masked_mean(1 - nearest.mean(-1), labels >= 0, axis=0)


def power_ratio(logits: Array, power: Array, k: int = 1) -> Array:
    """Received power over the best beam's, mean over examples; for k > 1, after a sweep of the k best-scored beams.

    A sweep of k beams takes k / M of the overhead of a full one.

    Args:
      logits: [B, ..., M].
      power: [B, ..., M], linear receive power of each beam; all 0 where missing.
      k: number of beams swept.

    Returns:
      [...], from 0 to 1.
    """
    ratio, received = _ratio(logits, power, k)
    return masked_mean(ratio, received, axis=0)


def power_loss_db(logits: Array, power: Array, k: int = 1) -> Array:
    """Mean over examples of the loss in dB against the best beam; arguments as in `power_ratio`."""
    ratio, received = _ratio(logits, power, k)
    return masked_mean(-10 * jnp.log10(jnp.where(received, ratio, 1)), received, axis=0)


def _ratio(logits: Array, power: Array, k: int) -> tuple[Array, Array]:
    chex.assert_equal_shape([logits, power])
    best = power.max(-1)
    swept = jnp.take_along_axis(power, jax.lax.top_k(logits, k)[1], axis=-1).max(-1)
    return swept / jnp.where(best > 0, best, 1), best > 0


def _best(logits: Array, labels: Array, k: int) -> Array:
    chex.assert_rank(logits, labels.ndim + 1)
    chex.assert_equal_shape_prefix([logits, labels], labels.ndim)
    return jax.lax.top_k(logits, k)[1]
