"""Evaluation of a network, and what it costs."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import Array, Batch, Forward, Rows
from beamkd.training.batches import over_rows
from beamkd.training.metrics import dba, power_loss_db, power_ratio, top_k

SWEEPS = (3, 5)
"""Numbers of beams swept whose received power is reported, besides the single best."""


@struct.dataclass
class Scores:
    """How a network does on a batch. Of all batches of a dataset, stacked: `mean_scores` makes one figure.

    Attributes:
      metrics: by name, [J + 1].
      counts: how many examples each is the mean of, by name, [J + 1].
      beams: [B] int32, best-scored beam of the current slot.
      each: the metrics of each example alone, by name, [B, J + 1]; 0 where it has none.
      valid: whether it has them, by name, [B, J + 1] bool.
    """

    metrics: dict[str, Array]
    counts: dict[str, Array]
    beams: Array
    each: dict[str, Array]
    valid: dict[str, Array]


def measure(logits: Array, batch: Batch) -> dict[str, Array]:
    """All metrics of predictions, by name, each [J + 1].

    Args:
      logits: [N, J + 1, M].
      batch: the N windows; only labels and powers are looked at.
    """
    accuracies = {f"top{k}": top_k(logits, batch.labels, k) for k in (1, 2, 3, 5)}
    sweeps = {f"power_ratio_top{k}": power_ratio(logits, batch.power, k) for k in SWEEPS}
    return {
        **accuracies,
        "dba": dba(logits, batch.labels),
        "power_ratio": power_ratio(logits, batch.power),
        "power_loss_db": power_loss_db(logits, batch.power),
        **sweeps,
    }


def score_batch(forward: Forward, params: Any, batch: Batch) -> Scores:
    """How a network does on a batch, without dropout."""
    logits = forward(params, batch, None).logits[:, -batch.labels.shape[1] :]
    metrics = measure(logits, batch)
    each = jax.vmap(lambda *example: measure(*jax.tree.map(lambda leaf: leaf[None], example)))(logits, batch)
    labelled, received = batch.labels >= 0, batch.power.max(-1) > 0
    valid = {name: received if name.startswith("power") else labelled for name in metrics}
    return Scores(metrics, jax.tree.map(lambda has: has.sum(0), valid), logits[:, 0].argmax(-1), each, valid)


def mean_scores(scores: Scores) -> dict[str, Array]:
    """Metrics over all batches, by name, [J + 1], from those of each, stacked along a first axis."""

    def mean(values, counts):
        return (values * counts).sum(0) / jnp.maximum(counts.sum(0), 1)

    return jax.tree.map(mean, scores.metrics, scores.counts)


def sums_by_drive(
    scores: Scores, rows: Rows, drive: np.ndarray, numbers: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a network scores on each drive, for intervals that cover other drives (`beamkd.claims`).

    Args:
      scores: of the batches of `rows`, [batches, ...], NumPy's arrays.
      rows: N of them.
      drive: [W], the drive of each window.
      numbers: [D] ascending, the drives to tell apart; all that the rows are of, and maybe more.

    Returns:
      Sums of the metrics over the windows of each drive and how many windows these are, by name, [D, J + 1].
    """
    chosen = np.flatnonzero(rows.mask)
    place = np.searchsorted(numbers, drive[rows.index[chosen]])

    def total(values):
        values = values.reshape(-1, values.shape[-1])[chosen].astype(np.float64)
        return np.stack([np.bincount(place, slot, len(numbers)) for slot in values.T], -1)

    return jax.tree.map(total, scores.each), jax.tree.map(total, scores.valid)


def evaluate(
    forward: Forward,
    params: Any,
    data: Any,
    rows: Rows,
    take: Callable[[Any, Rows], Batch],
    axis_name: str | None = None,
) -> dict[str, Array]:
    """All metrics of a network over some rows, without dropout, by name, each [J + 1].

    Args:
      forward: the network.
      params: its weights.
      data: what `take` takes.
      rows: N rows.
      take: take(data, rows) -> batch.
      axis_name: the axis of devices that share the work; the same bits as on one.
    """
    return mean_scores(over_rows(functools.partial(score_batch, forward, params), data, rows, take, axis_name))


def flops(function: Callable, *args: Any) -> float:
    """Floating-point operations of one call of `function`, by XLA's count for a CPU before it optimises.

    Loops count once: recurrences are counted in full because they are unrolled.

    Args:
      function: any that JAX can trace.
      *args: arrays or their shapes (`jax.ShapeDtypeStruct`).
    """
    return float(lower_on_cpu(function, *args).cost_analysis()["flops"])


def lower_on_cpu(function: Callable, *args: Any) -> jax.stages.Lowered:
    """`function` of arguments of these shapes, lowered for a CPU whatever the device is, to count what it costs.

    Only a CPU's compiler counts before it optimises; accelerators' programs hide products in library calls.

    Args:
      function: any that JAX can trace.
      *args: arrays or their shapes (`jax.ShapeDtypeStruct`).

    Raises:
      RuntimeError: JAX was told to use other platforms alone.
    """
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.jit(function).lower(*jax.eval_shape(lambda *given: given, *args))
