"""Collaborative data-free distillation: nodes hand over a model and its metadata, the centre inverts them all."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from beamkd.base import Array, Batch, Metadata, Rows
from beamkd.collab.aggregate import counted
from beamkd.collab.learning import learn
from beamkd.collab.nodes import Kind
from beamkd.collab.strategies.fedavg import Global
from beamkd.collab.strategies.local import begin
from beamkd.collab.strategy import Exchange, Strategy, by_exchange
from beamkd.data import select, sensor_batch
from beamkd.distill import distillation_task, hindsight_logits
from beamkd.inversion import GeneratorLoss, generate, invert, summarize
from beamkd.losses import kl
from beamkd.models import SceneGenerator
from beamkd.models.scene import Scene
from beamkd.scenes import render
from beamkd.training import FitConfig, fit, supervised_task
from beamkd.training.fit import where

INVERSION = FitConfig(epochs=500, patience=0, learning_rate=3e-4)
"""Of a node's model; an epoch is one step."""

STUDENT = FitConfig(epochs=60, patience=0, learning_rate=3e-3)
"""Of the centre's network, on all sequences."""


def datafree(
    kinds: Sequence[Kind],
    epochs: int = 1,
    sequences: int = 20000,
    inversion: FitConfig = INVERSION,
    student: FitConfig = STUDENT,
    temperature: float = 2.0,
) -> Strategy:
    """The centre's network learns what each node's model says of scenes that look right to that model.

    Nodes may see other sensors than one another and the centre: scenes are rendered for all. No window leaves its node,
    and all that crosses does so once: one round in which nodes train to their end is enough.

    Args:
      kinds: those of the nodes' groups, which the centre knows beforehand.
      epochs: of a node on its own windows, in a round.
      sequences: that are generated, for all nodes together.
      inversion: of each model.
      student: of the centre's network.
      temperature: T of the KL divergence.
    """

    def centre(kind, key, own, mine, heard):
        return Global(mine)

    def work(kind, key, own, mine, heard):
        mine = learn(supervised_task(kind.forward, kind.take, kind.fit), mine, key, own.data, own.train, epochs)
        summary = summarize(kind.forward, mine.params, own.data, own.train, kind.take)
        return mine, {"weights": mine.params, "metadata": summary}

    def teach(kind, key, own, mine, heard):
        said, active = heard
        to_generate, to_fit = jax.random.split(key)
        each = -(-sequences // len(active))
        taught = []
        for number, (its, says) in enumerate(zip(kinds, said, strict=True)):
            make = functools.partial(_taught, its, kind, each=each, inversion=inversion)
            keys = jax.random.split(jax.random.fold_in(to_generate, number), len(jax.tree.leaves(says)[0]))
            taught.append(jax.lax.map(lambda own, make=make: make(*own), (keys, says["weights"], says["metadata"])))
        rows = Rows(jnp.arange(each * len(active)), jnp.repeat(active, each))
        examples = jax.tree.map(lambda *leaves: counted(jnp.concatenate([*map(_flat, leaves)]), rows.mask), *taught)
        task = distillation_task(kind.forward, select, student, functools.partial(kl, temperature=temperature))
        learned = fit(task, to_fit, mine.params, examples, rows).params
        return Global(where(active.any(), learned, mine.params))

    return by_exchange("datafree", Exchange(begin, centre, None, work, teach, central=True, apart=True))


def _taught(
    kind: Kind, centre: Kind, key: Array, params: Any, summary: Metadata, each: int, inversion: FitConfig
) -> tuple[Batch, Array]:
    """Sequences that look right to a node's model, as the centre's network takes them, and what the model says."""
    to_invert, to_generate = jax.random.split(key)
    generator = SceneGenerator(frames=kind.observed)
    own, its = seen_by(kind, centre), seen_by(centre, kind)
    found = invert(to_invert, generator, kind.forward, params, summary, own, GeneratorLoss(0.0, layers=1.0), inversion)
    scenes = generate(to_generate, generator.clone(ahead=kind.future), found.params, each)
    logits = hindsight_logits(kind.forward, params, own(scenes), each, select, kind.observed, kind.future)
    return its(scenes).window(0, centre.observed), logits


def seen_by(kind: Kind, other: Kind) -> Callable[[Scene], Batch]:
    """What makes batches of scenes for networks of a kind; another kind sees the same scenes from where it stands."""

    def seen(scenes):
        frames = render(scenes, {**kind.spec, **other.spec})
        return sensor_batch({name: frames[name] for name in kind.spec}, kind.future)

    return seen


def _flat(leaf: Array) -> Array:
    return leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])
