"""A student from a teacher: on real windows with their labels, or on generated ones without any.

What takes keys, weights and arrays of one member comes first. Below it, what trains many at once, with checkpoints.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from beamkd.base import Array, Batch, Forward, InputError, Model, Rows, Stream, as_taken
from beamkd.data import Dataset, forward_of, select
from beamkd.losses import Loss, combine, cross_entropy, kl, masked_mean
from beamkd.models import Matched
from beamkd.training import FitConfig, FitState, Task, Trainer, all_rows, fit, mean_over_labels
from beamkd.training.batches import over_rows

Terms = Mapping[str, tuple[float, Loss]]
"""Losses by name with their weights, as `beamkd.losses.combine` takes them."""

LAYERS = ("features", "codes", "states")
"""What terms may name of a teacher's `Output`, with 'teacher_' in front, besides its logits."""


def teacher_answers(
    teacher: Forward,
    params: Any,
    data: Any,
    count: int,
    take: Callable[[Any, Rows], Batch],
    layers: Sequence[str] = (),
    axis_name: str | None = None,
) -> dict[str, Array]:
    """What the teacher says of all rows of a dataset.

    Inputs and teacher never change during distillation, so this runs once, ahead of it.

    Args:
      teacher: the network.
      params: its weights.
      data: what `take` takes, of `count` rows.
      count: of rows. N are the examples that they have, one each where `take` gives no more.
      take: take(data, rows) -> batch.
      layers: what to keep besides: 'features', or layers of its `Output` by name.
      axis_name: the axis of devices that share the work; the same bits as on one.

    Returns:
      'teacher_logits' [N, S, M], and of `layers` 'teacher_features' [N, D] and so on.
    """

    def ask(batch):
        output = teacher(params, batch, None)
        known = {"logits": output.logits, "features": output.features, **output.layers}
        return {f"teacher_{name}": known[name] for name in ("logits", *layers)}

    answers = over_rows(ask, data, all_rows(count), take, axis_name)
    examples = count * len(jax.eval_shape(take, data, all_rows(1)).mask)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:examples], answers)


def teacher_logits(
    teacher: Forward,
    params: Any,
    data: Any,
    count: int,
    take: Callable[[Any, Rows], Batch],
    axis_name: str | None = None,
) -> Array:
    """The logits of `teacher_answers` alone, [N, S, M]."""
    return teacher_answers(teacher, params, data, count, take, axis_name=axis_name)["teacher_logits"]


def hindsight_logits(
    teacher: Forward,
    params: Any,
    data: Any,
    count: int,
    take: Callable[[Any, Rows], Batch],
    observed: int,
    ahead: int,
    axis_name: str | None = None,
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
      axis_name: as in `teacher_answers`.

    Returns:
      [N, S, M].
    """

    def ask(first):
        def window(data, rows):
            return take(data, rows).window(first, observed)

        return teacher_logits(teacher, params, data, count, window, axis_name=axis_name)

    asked = [ask(first) for first in range(ahead + 1)]
    logits = asked[0]
    slots = jax.eval_shape(take, data, all_rows(1)).labels.shape[1]
    for slot in range(1, ahead + 1):
        step = logits.shape[1] - slots + slot
        said = [asked[first][:, step - first] for first in range(slot + 1)]
        logits = logits.at[:, step].set(sum(said) / len(said))
    return logits


def distillation_task(
    student: Forward,
    take: Callable[[Any, Rows], Batch],
    config: FitConfig = FitConfig(epochs=500),
    loss: Loss = kl,
    alpha: float = 1.0,
    terms: Terms | None = None,
    label_loss: Loss = cross_entropy,
) -> Task:
    """Train `student` on α · loss(student, teacher) + (1 − α) · cross-entropy of the labels (Hinton et al., 2015).

    Its data are a pair: what `take` takes, and the `teacher_answers` on it, or their logits [N, S, M] alone. A teacher
    that sees more or fewer frames than the student is compared with it at the last J + 1 steps, others at all S.

    Args:
      student: the network.
      take: take(data, rows) -> batch.
      config: how.
      loss: of student's and teacher's logits [..., M], for instance `kl` or `mse`; meant over the steps.
      alpha: α; at 1 no label is looked at.
      terms: further losses of a batch. Each gets those that it names of the student's `logits` [B, S, M], `features`
        [B, D] and layers, the answers by their names, `labels` [B, J + 1] and `mask` [B]; and `axis_name`, as
        `beamkd.losses.masked_mean` does, where devices share a batch.
      label_loss: of logits [..., M] and labels [...], for instance `focal`.
    """
    objective = combine(
        teacher=(alpha, _mean_over_steps(loss)),
        **({"labels": (1 - alpha, mean_over_labels(label_loss))} if alpha < 1 else {}),
        **(terms or {}),
    )

    def take_both(data, rows):
        examples, answers = data
        answers = answers if isinstance(answers, Mapping) else {"teacher_logits": answers}
        batch = take(examples, rows)
        each = len(batch.mask) // len(rows.mask)  # examples of a row
        index = (rows.index[:, None] * each + jnp.arange(each)).reshape(-1)
        return batch, jax.tree.map(lambda leaf: leaf[index], answers)

    def step_loss(params, batch, key, **axis):
        batch, answers = batch
        output = student(params, batch, key, **axis)
        own = {"logits": output.logits, "features": output.features, "labels": batch.labels, "mask": batch.mask}
        return objective.of(**own, **output.layers, **answers, **axis)

    return Task(step_loss, take_both, config)


def _mean_over_steps(loss: Loss) -> Loss:
    def mean(logits, teacher_logits, labels, mask, axis_name=None):
        if logits.shape[1] != teacher_logits.shape[1]:
            slots = labels.shape[1]
            logits, teacher_logits = logits[:, -slots:], teacher_logits[:, -slots:]
        return masked_mean(loss(logits, teacher_logits), mask, axis_name=axis_name)

    return mean


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
    axis_name: str | None = None,
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
      axis_name: the axis of devices that share each batch.

    Returns:
      The end of training; `.best` are the weights to use.
    """
    answers = teacher_logits(teacher, teacher_params, examples, count, take, axis_name=axis_name)
    task = distillation_task(student, take, config, loss)
    return fit(task, key, params, (examples, answers), *held_out(count, last), axis_name)


def distill_on_windows(
    trainer: Trainer,
    name: str,
    keys: Array,
    student: Model,
    teacher: Model,
    dataset: Dataset,
    config: FitConfig = FitConfig(),
    loss: Loss = kl,
    alpha: float = 1.0,
    terms: Terms | None = None,
    label_loss: Loss = cross_entropy,
) -> FitState:
    """Train students on their teachers' answers on a dataset's training windows, and on the labels of these.

    Args:
      trainer: a `Trainer`, or what trains in its place.
      name: of the training.
      keys: [members].
      student: with initial weights [members, ...].
      teacher: with weights [members, ...]. It may take other sensors than the student, and more or fewer frames.
      dataset: on the device or streamed. The teacher's answers on a stream are not kept, but asked for as it passes.
      config: how to train.
      loss: of student's and teacher's logits, as in `distillation_task`.
      alpha: its weight against the labels.
      terms: further losses, likewise; those that name 'teacher_features' or a layer of the teacher's get it.
      label_loss: likewise.

    Returns:
      The end of training, [members, ...].
    """
    task = distillation_task(forward_of(student), dataset.take, config, loss, alpha, terms, label_loss)
    named = combine(**terms).takes if terms else lambda name: False
    ask = functools.partial(
        teacher_answers,
        forward_of(teacher),
        take=dataset.take,
        layers=[name for name in LAYERS if named(f"teacher_{name}")],
        axis_name=trainer.axis_name,
    )
    source, axes = dataset.source({**teacher.inputs, **student.inputs}), None
    if isinstance(source, Stream):

        def prepare(params, batch):
            return batch, ask(params, batch, count=len(batch.mask))

        source = dataclasses.replace(source, prepare=prepare, context=teacher.params)
    else:
        ask_all = trainer.over_members(functools.partial(ask, count=len(source)), (0, None))
        source, axes = (source, ask_all(teacher.params, source)), (None, 0)
    split = dataset.split
    return trainer.train(name, task, keys, student.params, source, split.train, split.val, axes)


def matched(keys: Array, student: Model, teacher: Model, layers: Sequence[str], future: int) -> Model:
    """Students whose layers have the shapes of their teachers', by linear maps that are learned with them.

    So terms of `distill_on_windows` compare layers of unlike networks, and of unlike numbers of frames. `unmatched` of
    what training leaves gives the students.

    Args:
      keys: [members], of the maps' initial weights.
      student: with initial weights [members, ...].
      teacher: likewise.
      layers: names out of 'codes' and 'states'.
      future: J.
    """

    def first(model):
        params = jax.tree.map(lambda leaf: leaf[0], model.params)
        frames = {name: jnp.zeros((1, *shape)) for name, shape in model.inputs.items()}
        return params, as_taken(frames)

    output = jax.eval_shape(lambda pair: teacher.module.apply(*pair, future=future), first(teacher))
    shapes = tuple((name, output.layers[name].shape[1:]) for name in layers)
    module, (_, frames) = Matched(student.module, shapes), first(student)
    maps = jax.jit(jax.vmap(lambda key: module.init(key, frames, future=future)))(keys)["params"]
    return dataclasses.replace(student, module=module, params={"params": maps | {"network": student.params["params"]}})


def unmatched(model: Model) -> Model:
    """The students in those of `matched`."""
    params = {"params": model.params["params"]["network"]}
    return dataclasses.replace(model, module=model.module.network, params=params)


def distill_on_sequences(
    trainer: Trainer,
    name: str,
    keys: Array,
    student: Model,
    teacher: Model,
    sequences: Batch,
    config: FitConfig = FitConfig(epochs=500),
    loss: Loss = kl,
    last: int = 1000,
    ahead: int = 0,
    validation: Batch | None = None,
) -> FitState:
    """Train students on their teachers' answers on sequences alone.

    Args as in `distill_on_windows`, and:
      sequences: without labels, [members, N, ...], for instance by `beamkd.inversion.generate_sequences`.
      last: number of sequences at the end that choose the epoch.
      ahead: frames that sequences go on for beyond those that networks see; the teacher then answers in hindsight.
      validation: windows that choose the epoch in place of the last sequences, [members, N', ...]: the published way,
        and not data-free where they are real.

    Returns:
      The end of training, [members, ...].
    """
    observed = next(iter(sequences.sensors.values())).shape[2] - ahead

    def answers(params, batch, ahead):
        ask = functools.partial(hindsight_logits, forward_of(teacher), axis_name=trainer.axis_name)
        return ask(params, batch, len(batch.mask), select, observed, ahead)

    def teach_all(batch, ahead):
        said = trainer.over_members(functools.partial(answers, ahead=ahead), (0, 0))(teacher.params, batch)
        return _seen_by(student, batch, observed), said

    train, val = held_out(sequences.mask.shape[1], last)
    examples = teach_all(sequences, ahead)
    if validation is not None:
        train, val, examples = _append(train, examples, teach_all(validation, 0))
    task = distillation_task(forward_of(student), select, config, loss)
    return trainer.train(name, task, keys, student.params, examples, train, val, 0)


def _seen_by(student: Model, sequences: Batch, observed: int) -> Batch:
    """The first frames of sequences [members, N, ...], of the student's sensors alone: others may take gigabytes."""

    def window(batch):
        return batch.replace(sensors={name: batch.sensors[name] for name in student.inputs}).window(0, observed)

    return jax.jit(jax.vmap(window))(sequences)


Examples = tuple[Batch, Array]
"""Windows and a teacher's logits on them, [members, N, ...]."""


def _append(train: Rows, examples: Examples, validation: Examples) -> tuple[Rows, Rows, Examples]:
    """Rows to train on and to validate by, of each member, in examples with those for validation behind them."""
    mask = validation[0].mask
    members, first = examples[0].mask.shape
    powerless = validation[0].replace(power=validation[0].power[..., :0])  # generated windows have no powers
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), examples, (powerless, validation[1]))
    train = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (members, *leaf.shape)), train)
    val = Rows(jnp.broadcast_to(jnp.arange(first, first + mask.shape[1]), mask.shape), mask)
    return train, val, joined
