"""Rows in random order and in batches of one size, and a batch divided over the devices that share it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from beamkd.base import Array, Rows

EVALUATION_BATCH = 512
"""Rows at a time where nothing is trained: enough to keep a device busy."""

EVALUATION_BYTES = 64 * 2**20
"""Of such a batch, at most: few enough for a device."""


def shuffled(key: Array, rows: Rows) -> Rows:
    """The rows in random order, padded ones last."""
    order = jnp.argsort(jnp.where(rows.mask, jax.random.uniform(key, rows.mask.shape), 2.0))
    return jax.tree.map(lambda leaf: leaf[order], rows)


def in_batches(rows: Rows, batch_size: int) -> Rows:
    """Rows [N] as [steps, B], B at most N; the last batch is padded, never dropped."""
    count = rows.index.shape[0]
    size = min(batch_size, count)
    steps = -(-count // size)
    return jax.tree.map(lambda leaf: _padded(leaf, steps * size).reshape(steps, size), rows)


def all_rows(count: int) -> Rows:
    """Every row of `count`."""
    return Rows(index=jnp.arange(count), mask=jnp.ones(count, bool))


def own_share(batch: Any, axis_name: str | None = None) -> Any:
    """Of a batch [B, ...] that all n devices along an axis have, the share of this one, [⌈B / n⌉, ...].

    Where B does not divide, the last rows are zeros; in a mask, False. Without an axis the batch itself.
    """
    if axis_name is None:
        return batch
    devices, place = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)

    def own(leaf):
        each = -(-len(leaf) // devices)
        return jax.lax.dynamic_slice_in_dim(_padded(leaf, each * devices), place * each, each)

    return jax.tree.map(own, batch)


def over_batches(function: Callable[[Any], Any], batches: Any, axis_name: str | None = None) -> Any:
    """Results of `function` on each of some batches, [steps, ...], one after the other.

    The devices along an axis, all of which have the batches, take whole ones each, and then have all results.
    """
    if axis_name is None:
        return jax.lax.map(function, batches)
    count = len(jax.tree.leaves(batches)[0])
    own = jax.lax.map(function, own_share(batches, axis_name))
    return jax.tree.map(lambda leaf: leaf[:count], jax.lax.all_gather(own, axis_name, tiled=True))


def over_rows(
    function: Callable[[Any], Any],
    data: Any,
    rows: Rows,
    take: Callable[[Any, Rows], Any],
    axis_name: str | None = None,
) -> Any:
    """Results of `function` on all batches of some rows of a dataset, [steps, ...], where nothing is trained.

    Args:
      function: of what `take` gives.
      data: what `take` takes.
      rows: N rows.
      take: take(data, rows) -> batch.
      axis_name: the axis of devices that share the work; the same bits as on one.
    """
    batches = evaluation_batches(rows, jax.eval_shape(take, data, all_rows(1)))
    return over_batches(lambda rows: function(take(data, rows)), batches, axis_name)


def evaluation_batches(rows: Rows, example: Any) -> Rows:
    """Rows in batches of a size for where nothing is trained; `example` is a batch of one row, or its shapes."""
    return in_batches(rows, fitting(example, EVALUATION_BATCH, EVALUATION_BYTES))


def fitting(example: Any, most: int, most_bytes: int) -> int:
    """How many examples take `most_bytes`: 1 or more, and no more than `most`."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(example))
    return min(max(most_bytes // size, 1), most)


def _padded(leaf: Array, length: int) -> Array:
    """With zeros behind, [length, ...]."""
    return jnp.pad(leaf, [(0, length - len(leaf))] + [(0, 0)] * (leaf.ndim - 1))
