"""Losses of a student against its teacher, per example."""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import Array, InputError
from beamkd.losses.combine import Loss


def kl(student_logits: Array, teacher_logits: Array, temperature: float = 2.0) -> Array:
    """Kullback-Leibler divergence of the student's softened beams from the teacher's, times T² (Hinton et al., 2015).

    T² Σ p log(p / q), where p and q are the softmax of the teacher's and the student's logits over T. The factor keeps
    the gradient's size when T changes.

    Args:
      student_logits: [..., M].
      teacher_logits: [..., M].
      temperature: T.

    Returns:
      [...], in nats.
    """
    chex.assert_equal_shape([student_logits, teacher_logits])
    chex.assert_type([student_logits, teacher_logits], float)
    student = jax.nn.log_softmax(student_logits / temperature)
    teacher = jax.nn.log_softmax(teacher_logits / temperature)
    # Where p underflows to 0, p log p is 0 and not 0 · (−∞).
    probability = jnp.exp(teacher)
    terms = jnp.where(probability > 0, probability * (teacher - student), 0)
    return temperature**2 * terms.sum(-1)


def mse(student_logits: Array, teacher_logits: Array) -> Array:
    """Mean squared error between logits, [..., M] to [...] (arXiv 2509.19092): no temperature, no weight to tune."""
    return _mean_square(student_logits, teacher_logits)


def feature_matching(student_features: Array, teacher_features: Array) -> Array:
    """Mean squared error between features, [..., D] to [...] (Romero et al., FitNets, ICLR 2015)."""
    return _mean_square(student_features, teacher_features)


def slot_weighted(loss: Loss, weights: tuple[float, ...]) -> Loss:
    """A loss at the last steps alone, the current slot's and those ahead, each with a weight (arXiv 2603.16116).

    Weights are scaled to a mean of 1, so that a mean over these steps is a weighted mean.

    Args:
      loss: of student's and teacher's logits [..., S, M] to [..., S], for instance `kl` or `mse`.
      weights: one a step, the last one that of the last step.

    Returns:
      loss(student_logits [..., S, M], teacher_logits [..., S', M]) -> [..., len(weights)], S and S' at least so many.

    Raises:
      InputError: no weights, one that is negative or not finite, or all are 0.
    """
    if not 0 < sum(weights) < float("inf") or min(weights) < 0:
        raise InputError(f"weights: expected finite ones, 0 or more and not all 0, found {weights}")
    scaled = [len(weights) * weight / sum(weights) for weight in weights]

    def weighted(student_logits: Array, teacher_logits: Array) -> Array:
        chex.assert_axis_dimension_gteq(student_logits, -2, len(scaled))
        chex.assert_axis_dimension_gteq(teacher_logits, -2, len(scaled))
        values = loss(student_logits[..., -len(scaled) :, :], teacher_logits[..., -len(scaled) :, :])
        return values * jnp.asarray(scaled, values.dtype)

    return weighted


def _mean_square(student: Array, teacher: Array) -> Array:
    chex.assert_equal_shape([student, teacher])
    chex.assert_type([student, teacher], float)
    return jnp.square(student - teacher).mean(-1)
