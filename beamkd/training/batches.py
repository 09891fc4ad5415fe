"""Rows in random order and in batches of one size."""

import jax
import jax.numpy as jnp

from beamkd.base import Array, Rows
from beamkd.training.devices import spread_batch


def shuffled(key: Array, rows: Rows) -> Rows:
    """The rows in random order, padded ones last."""
    order = jnp.argsort(jnp.where(rows.mask, jax.random.uniform(key, rows.mask.shape), 2.0))
    return jax.tree.map(lambda leaf: leaf[order], rows)


def in_batches(rows: Rows, batch_size: int) -> Rows:
    """Rows [N] as [steps, B], B at most N; the last batch is padded, never dropped.

    Devices that share batches each get a part of every one.
    """
    count = rows.index.shape[0]
    size = min(batch_size, count)
    steps = -(-count // size)
    batches = jax.tree.map(lambda leaf: jnp.pad(leaf, (0, steps * size - count)).reshape(steps, size), rows)
    return spread_batch(batches, axis=1)


def all_rows(count: int) -> Rows:
    """Every row of `count`."""
    return Rows(index=jnp.arange(count), mask=jnp.ones(count, bool))
