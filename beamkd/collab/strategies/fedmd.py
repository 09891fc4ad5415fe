"""Everyone learns from the mean of all answers: FedMD (arXiv 1910.03581) and DS-FL (Itahara et al., 2021)."""

import jax
import jax.numpy as jnp

from beamkd.base import Array
from beamkd.collab.aggregate import mean
from beamkd.collab.strategies.answers import STEPS, Digest, by_answers, epochs_of
from beamkd.collab.strategy import Strategy
from beamkd.losses import soft_cross_entropy

SHARPNESS = 0.1
"""Temperature by which DS-FL sharpens mean probabilities."""


def fedmd(windows: int = 256, epochs: int = 1, steps: int = 80, aggregate=mean) -> Strategy:
    """Nodes learn the mean of all logits by their mean absolute error, then from their own windows.

    Args:
      windows: shared ones, in a round; 5,000 in the paper.
      epochs: on own windows, in a round.
      steps: on the answers, in a round.
      aggregate: one of `beamkd.collab.aggregate`, in place of the mean.
    """

    def pool(logits, active):
        return aggregate(logits, active.astype(jnp.float32))

    return by_answers("fedmd", Digest(windows, absolute_error, epochs_of(steps, windows)), pool, epochs)


def dsfl(windows: int = 256, epochs: int = 1, steps: int = STEPS, aggregate=mean) -> Strategy:
    """Nodes learn the mean of all probabilities, sharpened, by cross-entropy: softmax(mean / 0.1).

    Args as of `fedmd`; windows are 1,000 in the paper.
    """

    def pool(logits, active):
        shares = aggregate(jax.nn.softmax(logits), active.astype(jnp.float32))
        return jax.nn.softmax(shares / SHARPNESS)

    return by_answers("dsfl", Digest(windows, soft_cross_entropy, epochs_of(steps, windows)), pool, epochs)


def absolute_error(logits: Array, targets: Array) -> Array:
    """Mean absolute error of logits [..., M], [...]."""
    return jnp.abs(logits - targets).mean(-1)
