"""Nodes that fail: that drop out, join late, lag behind, or say what is wrong."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, InputError

LOUD = 100.0
"""Standard deviation of garbage."""

AGAINST = -10.0
"""What a hostile node says is so many times what it found."""


@dataclasses.dataclass(frozen=True)
class Faults:
    """What goes wrong, by the numbers of nodes."""

    drop: float = 0.0
    """Probability with which a node takes no part in a round."""
    late: tuple[tuple[int, int], ...] = ()
    """Nodes that join late, each with its first round, from 0."""
    lag: tuple[int, ...] = ()
    """Nodes that say what they found a round ago."""
    broken: tuple[int, ...] = ()
    """Nodes that say NaN."""
    garbage: tuple[int, ...] = ()
    """Nodes that say noise."""
    hostile: tuple[int, ...] = ()
    """Nodes that say the opposite of what they found, and louder."""

    def __post_init__(self):
        if not 0 <= self.drop < 1:
            raise InputError(
                f"faults: expected a probability to drop out of 0 or more and less than 1, found {self.drop}"
            )

    def active(self, keys: Array, nodes: int) -> Callable[[int], Array]:
        """Who takes part in a round, as `run_rounds` asks: of those that have joined one at least.

        Args:
          keys: [seeds].
          nodes: how many there are.

        Returns:
          A function of the round's number, [seeds, nodes] bool.
        """
        first = np.zeros(nodes, int)
        for node, number in self.late:
            first[node] = number

        def one(number, key):
            drawn = jax.random.uniform(jax.random.fold_in(key, number), (nodes,))
            joined = first <= number
            stays = drawn >= self.drop
            lucky = jnp.arange(nodes) == jnp.argmax(jnp.where(joined, drawn, -1))
            return joined & jnp.where((joined & stays).any(), stays, lucky)

        each = jax.jit(jax.vmap(one, (None, 0)))
        return lambda number: each(number, keys)

    def stale(self, nodes: int, done: int) -> np.ndarray:
        """Whose messages say that they are of an earlier round, after so many, [nodes] bool."""
        return np.isin(np.arange(nodes), self.lag) & (done > 0)

    @functools.partial(jax.jit, static_argnums=(0, 4))
    def said(self, keys: Array, says: Any, before: Any, first: int) -> Any:
        """What arrives of what a group's nodes say.

        Args:
          keys: [seeds].
          says: what they found in this round, a pytree of [seeds, nodes, ...].
          before: the same of the round before; None in the first.
          first: number of the group's first node.
        """
        leaves, tree = jax.tree.flatten(says)
        old = leaves if before is None else jax.tree.leaves(before)

        def arrives(number, leaf, old):
            nodes = first + jnp.arange(leaf.shape[1])

            def at(chosen):
                return jnp.isin(nodes, jnp.array(chosen, int)).reshape(1, -1, *[1] * (leaf.ndim - 2))

            leaf = jnp.where(at(self.lag), old, leaf)
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            draw = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), leaf.shape[1:]))
            leaf = jnp.where(at(self.hostile), AGAINST * leaf, leaf)
            leaf = jnp.where(at(self.garbage), LOUD * draw(keys), leaf)
            return jnp.where(at(self.broken), jnp.nan, leaf)

        return jax.tree.unflatten(tree, [arrives(*each) for each in zip(range(len(leaves)), leaves, old, strict=True)])
