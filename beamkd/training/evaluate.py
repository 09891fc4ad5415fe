"""Evaluation of a network, and what it costs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beamkd.base import Array, Batch, Forward, Rows
from beamkd.training.batches import in_batches
from beamkd.training.metrics import dba, power_loss_db, power_ratio, top_k

EVALUATION_BATCH = 512
"""Rows at a time: enough to keep a device busy, few enough to fit it."""

SWEEPS = (3, 5)
"""Numbers of beams swept whose received power is reported, besides the single best."""


@struct.dataclass
class Scores:
    """How a network does on a batch. Of all batches of a dataset, stacked: `mean_scores` makes one figure.

    Attributes:
      metrics: by name, [J + 1].
      counts: how many examples each is the mean of, by name, [J + 1].
      beams: [B] int32, best-scored beam of the current slot.
    """

    metrics: dict[str, Array]
    counts: dict[str, Array]
    beams: Array


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
    labelled, received = (batch.labels >= 0).sum(0), (batch.power.max(-1) > 0).sum(0)
    counts = {name: received if name.startswith("power") else labelled for name in metrics}
    return Scores(metrics, counts, logits[:, 0].argmax(-1))


def mean_scores(scores: Scores) -> dict[str, Array]:
    """Metrics over all batches, by name, [J + 1], from those of each, stacked along a first axis."""

    def mean(values, counts):
        return (values * counts).sum(0) / jnp.maximum(counts.sum(0), 1)

    return jax.tree.map(mean, scores.metrics, scores.counts)


def evaluate(
    forward: Forward, params: Any, data: Any, rows: Rows, take: Callable[[Any, Rows], Batch]
) -> dict[str, Array]:
    """All metrics of a network over some rows, without dropout, by name, each [J + 1].

    Args:
      forward: the network.
      params: its weights.
      data: what `take` takes.
      rows: N rows.
      take: take(data, rows) -> batch.
    """
    batches = in_batches(rows, EVALUATION_BATCH)
    return mean_scores(jax.lax.map(lambda rows: score_batch(forward, params, take(data, rows)), batches))


def flops(function: Callable, *args: Any) -> float:
    """Floating-point operations of one call of `function`, by XLA's count before it optimises.

    Loops count once: recurrences are counted in full because they are unrolled.

    Args:
      function: any that JAX can trace.
      *args: arrays or their shapes (`jax.ShapeDtypeStruct`).
    """
    return float(jax.jit(function).lower(*args).cost_analysis()["flops"])
