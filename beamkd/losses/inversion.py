"""Losses that make a generator's scans look real to a teacher; each is of a whole batch.

All take a `mask` [B], False for rows that only fill the batch, and an `axis_name`, as `beamkd.losses.masked_mean` does:
with it the rows are this device's share of the batch, and the result is that of the whole batch.
"""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import Array
from beamkd.losses.reduce import masked_mean, masked_variance

SMALL_SPREAD = 1e-3
"""What is added to the spread of each unit, as a share of the layer's."""


def metadata(
    features: Array, mean: Array, variance: Array, mask: Array | None = None, axis_name: str | None = None
) -> Array:
    """How far the batch's feature statistics are from the teacher's training data (arXiv 2509.19092).

    Mean over features of the squared error of the batch mean, plus the same of the unbiased batch variance.

    Args:
      features: [B, D], B ≥ 2.
      mean: [D], over the teacher's training data.
      variance: [D], likewise, unbiased.
      mask: [B]; see above.
      axis_name: see above; B may then be less than 2.

    Returns:
      A scalar.
    """
    chex.assert_rank([features, mean, variance], [2, 1, 1])
    chex.assert_equal_shape_suffix([features, mean, variance], 1)
    _expect_two(features, axis_name)
    mean_error = jnp.square(masked_mean(features, mask, 0, axis_name) - mean)
    variance_error = jnp.square(masked_variance(features, mask, axis_name) - variance)
    return mean_error.mean() + variance_error.mean()


def layer_statistics(
    values: Array, mean: Array, variance: Array, mask: Array | None = None, axis_name: str | None = None
) -> Array:
    """How far the batch's statistics of a layer are from the teacher's training data, relative to the layer's spread.

    Mean over entries of (mean − μ)² / σ² plus the same of the standard deviation, (s − σ)² / σ². Unlike `metadata`, it
    weighs quiet and loud units alike, and so may be added up over layers of unlike scales. The idea of matching
    every layer: Yin et al., DeepInversion, CVPR 2020.

    Args:
      values: [B, ...], B ≥ 2, for instance states [B, S, D].
      mean: [...], over the teacher's training data.
      variance: [...], likewise, unbiased.
      mask: [B]; see above.
      axis_name: see above; B may then be less than 2.

    Returns:
      A scalar.
    """
    chex.assert_equal_shape([values[0], mean, variance])
    _expect_two(values, axis_name)
    # Units that hardly change have no spread to go by: a thousandth of the layer's is added to all.
    least = SMALL_SPREAD**2 * variance.mean() + jnp.finfo(variance.dtype).tiny
    spread, found = jnp.sqrt(variance + least), jnp.sqrt(masked_variance(values, mask, axis_name) + least)
    offset = masked_mean(values, mask, 0, axis_name) - mean
    return (jnp.square(offset / spread) + jnp.square((found - spread) / spread)).mean()


def activation(features: Array, mask: Array | None = None, axis_name: str | None = None) -> Array:
    """−‖f‖₁ / D, mean over the batch: real inputs excite features (Chen et al., DAFL, ICCV 2019).

    Args:
      features: [B, D].
      mask: [B]; see above.
      axis_name: see above.

    Returns:
      A scalar.
    """
    chex.assert_rank(features, 2)
    return -masked_mean(jnp.abs(features), mask, axis_name=axis_name)


def entropy(logits: Array, mask: Array | None = None, axis_name: str | None = None) -> Array:
    """Negative entropy of the batch's mean beam distribution: least where beams are balanced (Chen et al., 2019).

    Σ p̄ log p̄, p̄ the mean of the softmax over the batch and the slots.

    Args:
      logits: [B, ..., M].
      mask: [B]; see above.
      axis_name: see above.

    Returns:
      A scalar, in nats, from −log M to 0.
    """
    chex.assert_rank(logits, {2, 3})
    probability = jax.nn.softmax(logits).reshape(-1, logits.shape[-1])
    if mask is not None:
        mask = jnp.repeat(mask, len(probability) // len(mask))
    mean = masked_mean(probability, mask, 0, axis_name)
    # x log x is 0 at 0, and its gradient there must not be NaN: hence the double `where`.
    positive = mean > 0
    return jnp.where(positive, mean * jnp.log(jnp.where(positive, mean, 1)), 0).sum()


def _expect_two(values: Array, axis_name: str | None) -> None:
    """A batch has a variance only of two rows or more; a device's share of it may have fewer."""
    if axis_name is None:
        chex.assert_axis_dimension_gteq(values, 0, 2)
