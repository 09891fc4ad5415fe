"""Soft labels, shares [..., M] that sum to 1 or are all 0 where a label is missing, and the loss against them."""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import Array


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """Cross-entropy −Σ t log softmax(logits) of the softmax against soft labels t; 0 where these are missing.

    Args:
      logits: [..., M].
      targets: [..., M], shares of each beam, not negative; all 0 where missing.

    Returns:
      [...], in nats.
    """
    chex.assert_equal_shape([logits, targets])
    chex.assert_type([logits, targets], float)
    # A beam that the logits rule out costs nothing where it has no share: 0 and not 0 · (−∞).
    terms = jnp.where(targets > 0, targets * jax.nn.log_softmax(logits), 0)
    return -terms.sum(-1)


def neighbour_targets(labels: Array, beams: int, reach: float) -> Array:
    """Labels smoothed over neighbouring beams, in proportion to exp(−(m − label)² / (2 reach²)).

    The smoothing of Szegedy et al., CVPR 2016, but over beams that point almost the same way rather than over all.

    Args:
      labels: [...] integer, from 0; negative where missing.
      beams: M.
      reach: the spread, in beams, more than 0.

    Returns:
      [..., M] float32.
    """
    chex.assert_type(labels, int)
    offset = (jnp.arange(beams) - labels[..., None]).astype(jnp.float32)
    shares = jax.nn.softmax(-jnp.square(offset / reach) / 2)
    return jnp.where(labels[..., None] >= 0, shares, 0)


def power_targets(power: Array, exponent: float = 1.0) -> Array:
    """Labels softened by what was measured, in proportion to (power / best power)^exponent.

    Args:
      power: [..., M], receive power of each beam, linear, in any unit; all 0 where missing.
      exponent: more than 0; the larger, the more the best beam stands out.

    Returns:
      [..., M].
    """
    chex.assert_type(power, float)
    best = power.max(-1, keepdims=True)
    there = best > 0
    # Powers as a softmax of logarithms: p / p may be less than 1 by a rounding, of which an exponent makes more.
    relative = jnp.where(there, power / jnp.where(there, best, 1), 1)
    return jnp.where(there, jax.nn.softmax(exponent * jnp.log(relative)), 0)
