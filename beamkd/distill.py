"""A student from a teacher: on real windows with their labels, or on generated ones without any."""

from collections.abc import Callable
from typing import Any

import jax

from beamkd.base import Array, Batch, Forward, InputError, Rows
from beamkd.losses import Loss, combine, cross_entropy, kl, masked_mean
from beamkd.training.batches import all_rows, in_batches
from beamkd.training.evaluate import EVALUATION_BATCH
from beamkd.training.fit import FitConfig, FitState, Task, fit
from beamkd.training.supervised import mean_over_labels


def teacher_logits(teacher: Forward, params: Any, data: Any, count: int, take: Callable[[Any, Rows], Batch]) -> Array:
    """The teacher's logits on all rows of a dataset.

    Inputs and teacher never change during distillation, so this runs once, ahead of it.

    Args:
      teacher: the network.
      params: its weights.
      data: what `take` takes, of `count` rows.
      count: N.
      take: take(data, rows) -> batch.

    Returns:
      [N, S, M].
    """
    batches = in_batches(all_rows(count), EVALUATION_BATCH)
    logits = jax.lax.map(lambda rows: teacher(params, take(data, rows), None).logits, batches)
    return logits.reshape(-1, *logits.shape[2:])[:count]


def hindsight_logits(
    teacher: Forward, params: Any, data: Any, count: int, take: Callable[[Any, Rows], Batch], observed: int, ahead: int
) -> Array:
    """The teacher's logits on sequences that go on, where it is asked again of slots ahead once they are nearer.

    The student is to see the first L frames. A slot k ahead of them is predicted from the L frames that begin 1 ... k
    later, too, at last as the current one. Its logits are the mean of all these: errors of single answers cancel.

    Args:
      teacher: the network.
      params: its weights.
      data: what `take` takes, of `count` rows.
      count: N.
      take: take(data, rows) -> batch with sensors [B, L + `ahead`, ...].
      observed: L.
      ahead: frames that sequences go on for, at most J. With 0 these are the `teacher_logits`.

    Returns:
      [N, S, M].
    """

    def ask(first):
        return teacher_logits(teacher, params, data, count, lambda data, rows: take(data, rows).window(first, observed))

    asked = [ask(first) for first in range(ahead + 1)]
    logits = asked[0]
    for slot in range(1, ahead + 1):
        step = observed - 1 + slot
        said = [asked[first][:, step - first] for first in range(slot + 1)]
        logits = logits.at[:, step].set(sum(said) / len(said))
    return logits


def distillation_task(
    student: Forward,
    take: Callable[[Any, Rows], Batch],
    config: FitConfig = FitConfig(epochs=500),
    loss: Loss = kl,
    alpha: float = 1.0,
) -> Task:
    """Train `student` on α · loss(student, teacher) + (1 − α) · cross-entropy of the labels (Hinton et al., 2015).

    Its data are a pair: what `take` takes, and the teacher's `teacher_logits` on it, [N, S, M].

    Args:
      student: the network.
      take: take(data, rows) -> batch.
      config: how.
      loss: of student's and teacher's logits [..., M], for instance `kl` or `mse`; meant over all S steps.
      alpha: α; at 1 no label is looked at.
    """
    terms = {"teacher": (alpha, lambda logits, targets, mask: masked_mean(loss(logits, targets), mask))}
    if alpha < 1:
        terms["labels"] = (1 - alpha, mean_over_labels(cross_entropy))
    objective = combine(**terms)

    def take_both(data, rows):
        examples, targets = data
        return take(examples, rows), targets[rows.index]

    def step_loss(params, batch, key):
        batch, targets = batch
        logits = student(params, batch, key).logits
        labels = {"labels": batch.labels} if alpha < 1 else {}
        return objective(logits=logits, targets=targets, mask=batch.mask, **labels)

    return Task(step_loss, take_both, config)


def held_out(count: int, last: int) -> tuple[Rows, Rows]:
    """Of `count` rows those to train on, and the `last` ones to choose the epoch by.

    Raises:
      InputError: either would be empty.
    """
    if not 0 < last < count:
        raise InputError(f"held-out examples: expected from 1 to fewer than all {count}, found {last}")
    rows, kept = all_rows(count), count - last
    return jax.tree.map(lambda leaf: leaf[:kept], rows), jax.tree.map(lambda leaf: leaf[kept:], rows)


def distill(
    key: Array,
    student: Forward,
    params: Any,
    teacher: Forward,
    teacher_params: Any,
    examples: Any,
    count: int,
    take: Callable[[Any, Rows], Batch],
    config: FitConfig = FitConfig(epochs=500),
    loss: Loss = kl,
    last: int = 1000,
) -> FitState:
    """Train a student on its teacher's answers alone; examples that are held out choose the epoch.

    A pure function: `jax.vmap` over keys, weights or examples makes many students.

    Args:
      key: for batches and dropout.
      student: the small network.
      params: its initial weights.
      teacher: the large network.
      teacher_params: its weights.
      examples: what `take` takes, for instance a `Batch` that `generate` made.
      count: number of examples.
      take: take(examples, rows) -> batch.
      config: how to train.
      loss: of student's and teacher's logits.
      last: number of examples at the end that are held out.

    Returns:
      The end of training; `.best` are the weights to use.
    """
    targets = teacher_logits(teacher, teacher_params, examples, count, take)
    train, val = held_out(count, last)
    return fit(distillation_task(student, take, config, loss), key, params, (examples, targets), train, val)
