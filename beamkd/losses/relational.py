"""Losses of a student whose examples are to relate to one another as its teacher's do; each is of a whole batch.

Student and teacher may have unequal numbers of features: distances and angles between examples are compared, not these.

All take a `mask` [B], False for rows that only fill the batch, and an `axis_name`, as `beamkd.losses.masked_mean` does:
with it the rows are this device's share of the batch, and the result is that of the whole batch. It is 0 where no two
rows, or three for angles, are there.
"""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import Array
from beamkd.losses.reduce import masked_mean

Share = tuple[Array, Array]
"""A network's features: of this device's own rows [own, D], and of all rows of the batch [B, D]."""


def distance_relations(
    features: Array, teacher_features: Array, mask: Array | None = None, axis_name: str | None = None
) -> Array:
    """Mean over pairs of the squared error of Euclidean distances, each over its network's mean of them.

    The distances of Park et al., Relational Knowledge Distillation, CVPR 2019; the squared error of arXiv 2603.16116,
    but of all pairs of the batch in place of four random ones an example.

    Args:
      features: [B, D].
      teacher_features: [B, D'].
      mask: [B]; see above.
      axis_name: see above.

    Returns:
      A scalar, without a unit.
    """
    student, teacher, pairs = _shares(features, teacher_features, mask, axis_name)

    def relative(own, every):
        distance = _length(own[:, None] - every)
        mean = masked_mean(distance, pairs, axis_name=axis_name)
        return distance / jnp.where(mean > 0, mean, 1)

    errors = jnp.square(relative(*student) - relative(*teacher))
    return masked_mean(errors, pairs, axis_name=axis_name)


def cosine_relations(
    features: Array, teacher_features: Array, mask: Array | None = None, axis_name: str | None = None
) -> Array:
    """Mean over pairs of the squared error of cosine distances, 1 − cos(f_i, f_j) (arXiv 2603.16116).

    Of all pairs of the batch, likewise. The cosine with a row of zeros is 0.

    Args:
      features: [B, D].
      teacher_features: [B, D'].
      mask: [B]; see above.
      axis_name: see above.

    Returns:
      A scalar, from 0 to 4.
    """
    student, teacher, pairs = _shares(features, teacher_features, mask, axis_name)

    def cosine(own, every):
        return jnp.matmul(_unit(own), _unit(every).T, precision="highest")

    return masked_mean(jnp.square(cosine(*student) - cosine(*teacher)), pairs, axis_name=axis_name)


def angle_relations(
    features: Array, teacher_features: Array, mask: Array | None = None, axis_name: str | None = None
) -> Array:
    """Mean over triplets of the squared error of the cosine of the angle at j from i to k (Park et al., CVPR 2019).

    The cosine is that of f_i − f_j and f_k − f_j, i, j and k distinct; 0 where rows coincide. Takes B² (B + D) numbers.
    Park et al. have a Huber loss in place of the squared error.

    Args:
      features: [B, D].
      teacher_features: [B, D'].
      mask: [B]; see above.
      axis_name: see above.

    Returns:
      A scalar, from 0 to 4.
    """
    student, teacher, pairs = _shares(features, teacher_features, mask, axis_name)
    triplets = pairs[:, :, None] & pairs[:, None, :] & ~jnp.eye(pairs.shape[1], dtype=bool)

    def cosine(own, every):
        sides = _unit(every - own[:, None])
        return jnp.einsum("jid,jkd->jik", sides, sides, precision="highest")

    # Each j has as many triplets, so a mean of means it is: the number of all of them might overflow.
    of_each = jax.vmap(masked_mean)(jnp.square(cosine(*student) - cosine(*teacher)), triplets)
    return masked_mean(of_each, pairs.any(1), axis_name=axis_name)


def _shares(
    features: Array, teacher_features: Array, mask: Array | None, axis_name: str | None
) -> tuple[Share, Share, Array]:
    """The student's features, the teacher's, and which pairs of own and all rows are two that are there, [own, B].

    Each device sees to the pairs of its own rows, so that devices divide the work.
    """
    chex.assert_rank([features, teacher_features], 2)
    chex.assert_equal_shape_prefix([features, teacher_features], 1)
    chex.assert_type([features, teacher_features], float)
    mask = jnp.ones(len(features), bool) if mask is None else mask
    chex.assert_shape(mask, features.shape[:1])
    # What fills the batch may be anything: an infinity would turn the gradient into NaN.
    own = tuple(jnp.where(mask[:, None], rows, 0) for rows in (features, teacher_features))
    every, there, first = own, mask, 0
    if axis_name is not None:
        every, there = jax.lax.all_gather((own, mask), axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * len(mask)
    distinct = first + jnp.arange(len(mask))[:, None] != jnp.arange(len(there))
    student, teacher = zip(own, every, strict=True)
    return student, teacher, mask[:, None] & there & distinct


def _length(vectors: Array) -> Array:
    """Euclidean norm of vectors [..., D], with the gradient 0 where it is 0."""
    square = jnp.square(vectors).sum(-1)
    # A root has no slope at 0: hence the double `where`. What is less than this counts as 0, or slopes overflow.
    positive = square >= jnp.finfo(square.dtype).tiny
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def _unit(vectors: Array) -> Array:
    """Vectors [..., D] over their lengths; 0, and no gradient, where these are 0."""
    length = _length(vectors)[..., None]
    return jnp.where(length > 0, vectors / jnp.where(length > 0, length, 1), 0)
