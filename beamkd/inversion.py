"""Generators from a teacher: scans that look real to it, made without its data (arXiv 2509.19092).

What takes keys, weights and arrays of one member comes first. Below it, what works on many at once.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from beamkd.base import Array, Batch, Forward, InputError, Metadata, Model, Output, Rows, expect_at_least
from beamkd.data import Dataset, forward_of
from beamkd.losses import activation, combine, entropy, layer_statistics, metadata
from beamkd.training import FitConfig, FitState, Task, Trainer, all_rows, fit, map_batches, to_host
from beamkd.training.batches import over_rows, own_share


@dataclasses.dataclass(frozen=True)
class GeneratorLoss:
    """Weights of the terms of the generator's loss."""

    metadata: float = 1.0
    """Match the mean and variance of the teacher's features on its training data."""
    activation: float = 0.0
    """Excite features; of the first version of the paper."""
    entropy: float = 0.0
    """Balance the beams; likewise."""
    layers: float = 0.0
    """Match the mean and spread of the frames' codes, the states and the logits at every step."""

    def __post_init__(self):
        expect_at_least(self, metadata=0, activation=0, entropy=0, layers=0)


@struct.dataclass
class Moments:
    """What is kept of a teacher's layers on a batch: enough for the metadata over all batches.

    Attributes:
      count: [] int32, examples.
      mean: mean over the examples of each layer, by name; 0 without examples.
      squares: sum of the squared differences from that mean, likewise.
    """

    count: Array
    mean: dict[str, Array]
    squares: dict[str, Array]


STEPS = FitConfig(epochs=500, patience=0)
"""Generators train for a fixed number of steps; each counts as an epoch of one batch of fresh noise."""


def summarize(
    teacher: Forward,
    params: Any,
    data: Any,
    rows: Rows,
    take: Callable[[Any, Rows], Batch],
    axis_name: str | None = None,
) -> Metadata:
    """What the owner of the data does: mean and unbiased variance of the teacher's layers over training windows.

    Args:
      teacher: the network.
      params: its weights.
      data: what `take` takes.
      rows: the training windows, N of them unpadded.
      take: take(data, rows) -> batch.
      axis_name: the axis of devices that share the work; the same bits as on one.

    Returns:
      The metadata.
    """
    return merge_moments(over_rows(functools.partial(layer_moments, teacher, params), data, rows, take, axis_name))


def layer_moments(teacher: Forward, params: Any, batch: Batch) -> Moments:
    """Moments of the teacher's layers over a batch."""
    values = layers_of(teacher(params, batch, None))
    count = batch.mask.sum()
    share = 1 / jnp.maximum(count, 1)  # of a division XLA makes this product on one device, and not on several

    def total(values):
        mask = batch.mask.reshape(-1, *[1] * (values.ndim - 1))
        return jnp.where(mask, values, 0).sum(0)

    mean = jax.tree.map(lambda layer: share * total(layer), values)
    return Moments(count, mean, jax.tree.map(lambda layer, mean: total(jnp.square(layer - mean)), values, mean))


def merge_moments(moments: Moments) -> Metadata:
    """Mean and unbiased variance over all batches from the moments of each (Chan et al., 1979).

    Args:
      moments: of the batches, stacked along a first axis.
    """
    count = moments.count.sum()

    def merge(means, squares):
        weights = moments.count.reshape(-1, *[1] * (means.ndim - 1))
        mean = (weights * means).sum(0) / count
        return Metadata(mean, (squares + weights * jnp.square(means - mean)).sum(0) / (count - 1))

    layers = {name: merge(means, moments.squares[name]) for name, means in moments.mean.items()}
    return layers.pop("features").replace(layers=layers)


def layers_of(output: Output) -> dict[str, Array]:
    """All layers that metadata may be of, by name, [B, ...]."""
    return {"features": output.features, "logits": output.logits, **output.layers}


def inversion_task(
    teacher: Forward,
    generator: nn.Module,
    as_batch: Callable[[Any], Batch],
    weights: GeneratorLoss = GeneratorLoss(),
    config: FitConfig = STEPS,
) -> Task:
    """Train `generator` so that `teacher` takes what it makes for its own data.

    Its data are a pair: the teacher's weights, which stay as they are, and its metadata. Each step draws
    `config.batch_size` vectors of noise.

    Args:
      teacher: the network.
      generator: maps noise [B, `generator.noise`] to what `as_batch` takes.
      as_batch: makes a batch of that, for instance `sensor_batch` of `beamkd.data`.
      weights: of the terms.
      config: how.
    """
    terms = {
        "metadata": (weights.metadata, metadata),
        "activation": (weights.activation, activation),
        "entropy": (weights.entropy, entropy),
    }
    if weights.layers:  # costs more than the others
        terms["layers"] = (weights.layers, statistics_of_layers)
    objective = combine(**terms)

    def step_loss(params, batch, key, **axis):
        teacher_params, summary = batch
        noise = jax.random.normal(key, (config.batch_size, generator.noise))
        made = as_batch(generator.apply(params, own_share(noise, **axis)))
        output = teacher(teacher_params, made, None)
        # Where devices share the batch and it does not divide, the last rows of a share only fill it.
        mask = own_share(jnp.ones(config.batch_size, bool), **axis) if axis else None
        return objective.of(
            features=output.features,
            logits=output.logits[:, -made.labels.shape[1] :],
            mean=summary.mean,
            variance=summary.variance,
            layers=layers_of(output),
            summaries=summary.layers,
            mask=mask,
            **axis,
        )

    return Task(step_loss, lambda data, rows: data, config)


def statistics_of_layers(
    layers: Mapping[str, Array],
    summaries: Mapping[str, Metadata],
    mask: Array | None = None,
    axis_name: str | None = None,
) -> Array:
    """Sum of `layer_statistics` over the layers that there are summaries of."""
    if not summaries:
        raise InputError("generator loss: expected metadata of the teacher's layers, found its features' alone")
    return sum(
        layer_statistics(layers[name], own.mean, own.variance, mask, axis_name) for name, own in summaries.items()
    )


def generate(key: Array, generator: nn.Module, params: Any, count: int) -> Any:
    """Let a generator make `count` examples from standard normal noise, arrays [count, ...]."""
    return generator.apply(params, jax.random.normal(key, (count, generator.noise)))


def invert(
    key: Array,
    generator: nn.Module,
    teacher: Forward,
    teacher_params: Any,
    summary: Metadata,
    as_batch: Callable[[Any], Batch],
    weights: GeneratorLoss = GeneratorLoss(),
    config: FitConfig = STEPS,
    axis_name: str | None = None,
) -> FitState:
    """Train a generator to invert a teacher; arguments as in `inversion_task`.

    A pure function: `jax.vmap` over keys makes a population of generators.

    Args:
      key: for the initial weights and the noise.
      generator: the module to train.
      teacher: the network to invert.
      teacher_params: its weights.
      summary: its metadata.
      as_batch: makes a batch of what the generator makes.
      weights: of the terms of the loss.
      config: how to train.
      axis_name: the axis of devices that share each batch.

    Returns:
      The end of training; `.params` are the generator's weights.
    """
    init_key, fit_key = jax.random.split(key)
    params = generator.init(init_key, jnp.zeros((1, generator.noise)))
    task = inversion_task(teacher, generator, as_batch, weights, config)
    rows = all_rows(config.batch_size)
    return fit(task, fit_key, params, (teacher_params, summary), rows, axis_name=axis_name)


def summarize_on_dataset(trainer: Trainer, teacher: Model, dataset: Dataset) -> Metadata:
    """What the owner of a dataset does with teachers [members, ...], each on its own training windows: `summarize`.

    Returns:
      The metadata, [members, ...].
    """
    moments = map_batches(
        functools.partial(layer_moments, forward_of(teacher)),
        dataset.source(teacher.inputs),
        dataset.take,
        trainer.over_members,
        trainer.axis_name,
    )
    return jax.jit(jax.vmap(merge_moments))(to_host(moments(teacher.params, dataset.split.train)))


def initial_generator(keys: Array, module: nn.Module) -> Model:
    """Generators with their initial weights, of `keys` [members, G]: weights [members, G, ...]."""
    init = jax.vmap(jax.vmap(lambda key: module.init(key, jnp.zeros((1, module.noise)))))
    return Model(module, jax.jit(init)(keys), {"noise": (module.noise,)})


def train_generators(
    trainer: Trainer,
    name: str,
    keys: Array,
    generator: Model,
    teacher: Model,
    summaries: Metadata,
    as_batch: Callable[[Any], Batch],
    weights: GeneratorLoss = GeneratorLoss(),
    config: FitConfig = STEPS,
) -> Model:
    """Train generators, G for each teacher.

    Args:
      trainer: a `Trainer`, or what trains in its place.
      name: of the training.
      keys: [members, G].
      generator: with initial weights [members, G, ...].
      teacher: with weights [members, ...].
      summaries: the teachers' metadata, [members, ...].
      as_batch: makes a batch of what a generator makes.
      weights: of the terms of the loss.
      config: how to train.

    Returns:
      The generators, [members, G, ...].
    """
    members, count = keys.shape
    flat = jax.tree.map(lambda leaf: leaf.reshape(members * count, *leaf.shape[2:]), generator.params)
    data = jax.tree.map(lambda leaf: np.repeat(leaf, count, axis=0), (teacher.params, summaries))
    task = inversion_task(forward_of(teacher), generator.module, as_batch, weights, config)
    params = trainer.train(name, task, keys.reshape(-1), flat, data, all_rows(config.batch_size), axes=0).params
    params = jax.tree.map(lambda leaf: leaf.reshape(members, count, *leaf.shape[1:]), params)
    return dataclasses.replace(generator, params=params)


def generate_sequences(
    trainer: Trainer, keys: Array, order: Array, generator: Model, count: int, as_batch: Callable[[Any], Batch]
) -> Batch:
    """Let the generators of each member make as many sequences each, and mix them.

    Args:
      trainer: a `Trainer`, or what spreads members over devices in its place.
      keys: [members, G], for noise.
      order: [members] keys, for the order.
      generator: with weights [members, G, ...].
      count: N, of each member.
      as_batch: makes a batch of what a generator makes.

    Returns:
      A batch without labels, [members, N, ...].
    """
    each = -(-count // keys.shape[1])

    def make(keys, params, order):
        made = jax.lax.map(lambda own: generate(own[0], generator.module, own[1], each), (keys, params))
        chosen = jax.random.permutation(order, len(keys) * each)[:count]
        return as_batch(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[chosen], made))

    return trainer.over_members(make, (0, 0, 0))(keys, generator.params, order)
