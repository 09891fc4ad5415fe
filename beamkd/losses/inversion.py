"""Losses that make a generator's scans look real to a teacher; each is of a whole batch."""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import Array

SMALL_SPREAD = 1e-3
"""What is added to the spread of each unit, as a share of the layer's."""


def metadata(features: Array, mean: Array, variance: Array) -> Array:
    """How far the batch's feature statistics are from the teacher's training data (arXiv 2509.19092).

    Mean over features of the squared error of the batch mean, plus the same of the unbiased batch variance.

    Args:
      features: [B, D], B ≥ 2.
      mean: [D], over the teacher's training data.
      variance: [D], likewise, unbiased.

    Returns:
      A scalar.
    """
    chex.assert_rank([features, mean, variance], [2, 1, 1])
    chex.assert_equal_shape_suffix([features, mean, variance], 1)
    chex.assert_axis_dimension_gteq(features, 0, 2)
    mean_error = jnp.square(features.mean(0) - mean)
    variance_error = jnp.square(features.var(0, ddof=1) - variance)
    return mean_error.mean() + variance_error.mean()


def layer_statistics(values: Array, mean: Array, variance: Array) -> Array:
    """How far the batch's statistics of a layer are from the teacher's training data, relative to the layer's spread.

    Mean over entries of (mean − μ)² / σ² plus the same of the standard deviation, (s − σ)² / σ². Unlike `metadata`, it
    weighs quiet and loud units alike, and so may be added up over layers of unlike scales. The idea of matching
    every layer: Yin et al., DeepInversion, CVPR 2020.

    Args:
      values: [B, ...], B ≥ 2, for instance states [B, S, D].
      mean: [...], over the teacher's training data.
      variance: [...], likewise, unbiased.

    Returns:
      A scalar.
    """
    chex.assert_equal_shape([values[0], mean, variance])
    chex.assert_axis_dimension_gteq(values, 0, 2)
    # Units that hardly change have no spread to go by: a thousandth of the layer's is added to all.
    least = SMALL_SPREAD**2 * variance.mean() + jnp.finfo(variance.dtype).tiny
    spread, found = jnp.sqrt(variance + least), jnp.sqrt(values.var(0, ddof=1) + least)
    return (jnp.square((values.mean(0) - mean) / spread) + jnp.square((found - spread) / spread)).mean()


def activation(features: Array) -> Array:
    """−‖f‖₁ / D, mean over the batch: real inputs excite features (Chen et al., DAFL, ICCV 2019).

    Args:
      features: [B, D].

    Returns:
      A scalar.
    """
    chex.assert_rank(features, 2)
    return -jnp.abs(features).mean()


def entropy(logits: Array) -> Array:
    """Negative entropy of the batch's mean beam distribution: least where beams are balanced (Chen et al., 2019).

    Σ p̄ log p̄, p̄ the mean of the softmax over the batch and the slots.

    Args:
      logits: [B, ..., M].

    Returns:
      A scalar, in nats, from −log M to 0.
    """
    chex.assert_rank(logits, {2, 3})
    mean = jax.nn.softmax(logits).reshape(-1, logits.shape[-1]).mean(0)
    # x log x is 0 at 0, and its gradient there must not be NaN: hence the double `where`.
    positive = mean > 0
    return jnp.where(positive, mean * jnp.log(jnp.where(positive, mean, 1)), 0).sum()
