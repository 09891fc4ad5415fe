"""Collaborative data-free distillation: nodes hand over a model and its metadata, the centre inverts them all."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from beamkd.base import Array, Batch, Metadata, Rows
from beamkd.collab.aggregate import counted, mean
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import beginner, learn
from beamkd.collab.nodes import Kind
from beamkd.collab.strategies.fedavg import Global, given
from beamkd.collab.strategies.local import begin, on_own_windows
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.data import select, sensor_batch
from beamkd.distill import distillation_task, hindsight_logits
from beamkd.inversion import GeneratorLoss, generate, inversion_task, summarize
from beamkd.losses import kl
from beamkd.models import SceneGenerator
from beamkd.models.scene import Scene
from beamkd.scenes import render
from beamkd.training import FitConfig, all_rows
from beamkd.training.fit import where

INVERSION = FitConfig(epochs=500, patience=0, learning_rate=3e-4)
"""Of a node's model; an epoch is one step."""

STUDENT = FitConfig(epochs=60, patience=0, learning_rate=3e-3)
"""Of the centre's network, on all sequences."""

LEAST = 1e-9
"""Added to probabilities before their logarithm."""


def datafree(
    kinds: Sequence[Kind],
    epochs: int = 1,
    sequences: int = 20000,
    inversion: FitConfig = INVERSION,
    student: FitConfig = STUDENT,
    temperature: float = 2.0,
) -> Strategy:
    """The centre's network learns what all nodes' models say of scenes that look right to one of them.

    Of each scene it learns the mean of their probabilities: those that know a scene are surest of it. Nodes may see
    other sensors than one another and the centre: scenes are rendered for all. No window leaves its node, and all that
    crosses does so once: one round in which nodes train to their end is enough.

    Args:
      kinds: those of the nodes' groups, which the centre knows beforehand.
      epochs: of a node on its own windows, in a round.
      sequences: that are generated, for all nodes together.
      inversion: of each model.
      student: of the centre's network.
      temperature: T of the KL divergence.
    """

    def teach(kind, key, own, mine, heard):
        said, active = heard
        to_generate, to_fit = jax.random.split(key)
        each, everyone = -(-sequences // len(active)), (*kinds, kind)
        scenes = []
        for number, (its, says) in enumerate(zip(kinds, said, strict=True)):
            draw = functools.partial(_scenes, its, seen_by(its, *everyone), each=each, inversion=inversion)
            keys = jax.random.split(jax.random.fold_in(to_generate, number), len(jax.tree.leaves(says)[0]))
            scenes.append(jax.lax.map(lambda own, draw=draw: draw(*own), (keys, says["weights"], says["metadata"])))
        scenes = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *scenes)  # [nodes, each, ...]

        def show(some):
            frames, asked = render(some, _sensors(*everyone)), zip(kinds, said, strict=True)
            shares = [_shares(its, _seen(its, frames), each, says["weights"]) for its, says in asked]
            pooled = mean(jnp.concatenate(shares), active.astype(jnp.float32))
            return _seen(kind, frames).window(0, kind.observed), jnp.log(pooled + LEAST)

        views, targets = jax.lax.map(show, scenes)
        rows = Rows(jnp.arange(each * len(active)), jnp.repeat(active, each))
        examples = jax.tree.map(lambda leaf: counted(_flat(leaf), rows.mask), (views, targets))
        task = distillation_task(kind.forward, select, student, functools.partial(kl, temperature=temperature))
        learned = learn(task, beginner(student, mine.params), to_fit, examples, rows, student.epochs).params
        return Global(where(active.any(), learned, mine.params))

    exchange = Exchange(begin, given, None, models_and_metadata(epochs), teach, central=True, apart=True)
    return by_exchange("datafree", exchange)


def models_and_metadata(epochs: int) -> Callable:
    """A node's work in a round: so many epochs on its own windows; then it hands over its model, and metadata."""

    def work(kind, key, own, mine, heard):
        mine = on_own_windows(kind, mine, key, own, epochs)
        summary = summarize(kind.forward, mine.params, own.data, own.train, kind.take)
        return mine, {"weights": mine.params, "metadata": summary}

    return work


def _scenes(
    kind: Kind,
    own: Callable[[Scene], Batch],
    key: Array,
    params: Any,
    summary: Metadata,
    each: int,
    inversion: FitConfig,
) -> Scene:
    """Scenes that look right to a node's model, which sees them by `own`."""
    to_invert, to_generate = jax.random.split(key)
    generator = SceneGenerator(frames=kind.observed)
    to_init, to_learn = jax.random.split(to_invert)
    task = inversion_task(kind.forward, generator, own, GeneratorLoss(0.0, layers=1.0), inversion)
    begun = beginner(inversion, generator.init(to_init, jnp.zeros((1, generator.noise))))
    rows = all_rows(inversion.batch_size)
    found = learn(task, begun, to_learn, (params, summary), rows, inversion.epochs).params
    return generate(to_generate, generator.clone(ahead=kind.future), found, each)


def _shares(kind: Kind, sequences: Batch, count: int, weights: Any) -> Array:
    """Probabilities that nodes' models give the beams of N sequences, with hindsight, [nodes, N, J + 1, M]."""

    def one(params):
        logits = hindsight_logits(kind.forward, params, sequences, count, select, kind.observed, kind.future)
        return jax.nn.softmax(logits)

    return jax.lax.map(one, weights)


def seen_by(kind: Kind, *others: Kind) -> Callable[[Scene], Batch]:
    """What makes batches of scenes for networks of a kind; other kinds see the same scenes from where they stand."""
    return lambda scenes: _seen(kind, render(scenes, _sensors(kind, *others)))


def _sensors(*kinds: Kind) -> dict[str, Any]:
    """All that networks of some kinds see by."""
    return {name: leaf for kind in kinds for name, leaf in kind.spec.items()}


def _seen(kind: Kind, frames: dict[str, Array]) -> Batch:
    """Of the frames of all sensors what networks of a kind see."""
    return sensor_batch({name: frames[name] for name in kind.spec}, kind.future)


def _flat(leaf: Array) -> Array:
    return leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])
