"""Training of a network on measured beams."""

from collections.abc import Callable

from beamkd.base import Array, Forward
from beamkd.losses import Loss, combine, cross_entropy, masked_mean
from beamkd.training.fit import FitConfig, Task


def mean_over_labels(loss: Loss) -> Loss:
    """Make a per-slot loss of logits [B, J + 1, M] and labels into one of logits [B, S, M] and labels [B, J + 1].

    The last J + 1 steps are the predictions; the mean is over the slots that have a label.
    """

    def mean(logits: Array, labels: Array, axis_name: str | None = None) -> Array:
        slots = labels.shape[1]
        return masked_mean(loss(logits[:, -slots:], labels), labels >= 0, axis_name=axis_name)

    return mean


def supervised_task(
    forward: Forward, take: Callable, config: FitConfig = FitConfig(), loss: Loss = cross_entropy
) -> Task:
    """Train `forward` on the labels of batches.

    Args:
      forward: the network.
      take: take(data, rows) -> Batch.
      config: how.
      loss: of logits [..., M] and labels [...], for instance `focal`.
    """
    objective = combine(labels=(1.0, mean_over_labels(loss)))

    def step_loss(params, batch, key, **axis):
        return objective(logits=forward(params, batch, key, **axis).logits, labels=batch.labels, **axis)

    return Task(step_loss, take, config)
