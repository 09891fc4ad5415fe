"""One value out of those of several nodes: their mean, or what a few hostile ones cannot move far.

Each takes values, a pytree of [nodes, ...], and weights [nodes], 0 where a node says nothing or must not count; all are
0 where no node counts. Nodes are told apart by all of their values together, where a rule tells them apart at all.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, InputError

WEISZFELD_STEPS = 4
"""Of the geometric median (Pillutla et al., arXiv 1912.13445)."""

FAR = 5.0
"""Times as far from what most nodes say as the one in the middle is: such a node is suspected."""

LOOKED_AT = 4096
"""Numbers of an array, evenly spread, that are looked at for that."""

NEAREST = 1e-5
"""Distance to which a node comes at most in these steps."""


def mean(values: Any, weights: Array) -> Any:
    """The weighted mean; of a single node exactly its value."""
    share = weights / jnp.maximum(weights.sum(), jnp.finfo(jnp.float32).tiny)
    return jax.tree.map(lambda leaf: jnp.tensordot(share, counted(leaf, weights), 1, precision="highest"), values)


def median(values: Any, weights: Array) -> Any:
    """The median of each coordinate, over nodes that count, regardless of how much (Yin et al., ICML 2018)."""
    return trimmed_mean(0.5)(values, weights)


def trimmed_mean(share: float) -> Callable[[Any, Array], Any]:
    """The mean of each coordinate without the greatest and the least (Yin et al., ICML 2018).

    Args:
      share: of the nodes that count, to leave out at either end, rounded down, 0 to 0.5; one or two stay in any case.

    Raises:
      InputError: another share.
    """
    if not 0 <= share <= 0.5:
        raise InputError(f"trimmed mean: expected a share from 0 to 0.5, found {share}")

    def aggregate(values, weights):
        there = weights > 0
        count = there.sum()
        cut = jnp.minimum((share * count).astype(int), jnp.maximum(count - 1, 0) // 2)

        def one(leaf):
            # Those that do not count come last.
            ordered = jnp.sort(jnp.where(_wide(there, leaf), leaf, jnp.inf), axis=0)
            place = jnp.arange(len(leaf))
            kept = (place >= cut) & (place < count - cut)
            return jnp.where(_wide(kept, leaf), ordered, 0).sum(0) / jnp.maximum(kept.sum(), 1)

        return jax.tree.map(one, values)

    return aggregate


def geometric_median(values: Any, weights: Array) -> Any:
    """The point with the least weighted sum of distances to all, by Weiszfeld's steps from the mean."""
    found = mean(values, weights)
    for _ in range(WEISZFELD_STEPS):
        apart = jax.tree.map(lambda leaf, middle: jnp.square(counted(leaf - middle, weights)), values, found)
        distance = jnp.sqrt(sum(leaf.reshape(len(weights), -1).sum(1) for leaf in jax.tree.leaves(apart)))
        found = mean(values, weights / jnp.maximum(distance, NEAREST))
    return found


def krum(hostile: int) -> Callable[[Any, Array], Any]:
    """The value of the node that is nearest to its neighbours (Blanchard et al., NeurIPS 2017).

    Args:
      hostile: f, how many nodes may be hostile; of n that count each is judged by its distances to the n − f − 2
        nearest, at least one. The guarantee needs n of 2f + 3 or more.

    Raises:
      InputError: a negative number.
    """
    if hostile < 0:
        raise InputError(f"Krum: expected 0 or more hostile nodes, found {hostile}")

    def aggregate(values, weights):
        there = weights > 0
        count = there.sum()
        squares = sum(_squares(counted(leaf, weights)) for leaf in jax.tree.leaves(values))
        others = there[:, None] & there & ~jnp.eye(len(weights), dtype=bool)
        ordered = jnp.sort(jnp.where(others, squares, jnp.inf), axis=1)
        near = jnp.arange(len(weights)) < jnp.clip(count - hostile - 2, 1, count - 1)
        score = jnp.where(near, jnp.where(jnp.isfinite(ordered), ordered, 0), 0).sum(1)
        chosen = jnp.argmin(jnp.where(there, score, jnp.inf))
        return jax.tree.map(lambda leaf: jnp.where(there.any(), leaf[chosen], 0), values)

    return aggregate


AGGREGATES: dict[str, Callable[[Any, Array], Any]] = {
    "mean": mean,
    "trimmed": trimmed_mean(0.2),
    "median": median,
    "geometric": geometric_median,
    "krum": krum(2),
}
"""By name, as flags have them."""


def finite(values: Any) -> Array:
    """Which nodes say numbers alone, [nodes] bool, of a pytree of [nodes, ...]."""
    each = [jnp.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in jax.tree.leaves(values)]
    return jnp.stack(each).all(0)


def suspected(says: Any, there: np.ndarray) -> np.ndarray:
    """Which nodes say what is far from what most of them say, [seeds, nodes] bool; of fewer than four none.

    Far is a distance from the median of all, number by number, of more than `FAR` times the median of these distances,
    in one array of floating-point numbers or more; not in those of one number a node, for honest nodes may count unlike
    numbers of windows. It names nodes and has no effect; `median` and its like have.

    Args:
      says: a pytree of [seeds, nodes, ...].
      there: which nodes say something, finite numbers alone, [seeds, nodes] bool.
    """
    found = np.zeros(there.shape, bool)
    for leaf in map(np.asarray, jax.tree.leaves(says)):
        if not np.issubdtype(leaf.dtype, np.floating):
            continue
        values = leaf.reshape(*there.shape, math.prod(leaf.shape[2:]))
        if values.shape[-1] < 2:
            continue
        values = values[..., :: -(-values.shape[-1] // LOOKED_AT)]
        for seed in np.flatnonzero(there.sum(1) >= 4):
            nodes = np.flatnonzero(there[seed])
            own = values[seed, nodes].astype(np.float64)
            distance = np.linalg.norm(own - np.median(own, axis=0), axis=1)
            found[seed, nodes] |= distance > FAR * np.median(distance)
    return found


def _squares(values: Array) -> Array:
    """Squared distances of all pairs, [nodes, nodes]."""
    flat = values.reshape(len(values), -1)
    return jax.lax.map(lambda one: jnp.square(flat - one).sum(1), flat)


def counted(leaf: Array, weights: Array) -> Array:
    """Zeros in place of what does not count, by weights or a mask along the first axis: it may be anything."""
    return jnp.where(_wide(weights > 0, leaf), leaf, 0)


def _wide(each: Array, leaf: Array) -> Array:
    """[nodes] as [nodes, 1, ...]."""
    return each.reshape(-1, *[1] * (leaf.ndim - 1))
