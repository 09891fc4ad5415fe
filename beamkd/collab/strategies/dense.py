"""One round, and a generator that fools all nodes' models at once: DENSE and Co-Boosting.

DENSE: Zhang et al., NeurIPS 2022; Co-Boosting: Dai et al., ICLR 2024. Their networks have batch norms, whose statistics
a generator has to meet. Ours have none, and nodes hand over their layers' means and variances, as for `datafree`. Their
generators make pictures. Ours make scenes, which each node's model and the centre's see by their own sensors.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from beamkd.base import Array, Batch, Output, Rows
from beamkd.collab.aggregate import mean
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import beginner, learn
from beamkd.collab.nodes import Kind, output_of
from beamkd.collab.strategies.datafree import models_and_metadata, seen_by
from beamkd.collab.strategies.fedavg import Global, given
from beamkd.collab.strategies.local import begin
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.data import select
from beamkd.distill import distillation_task
from beamkd.inversion import statistics_of_layers
from beamkd.losses import cross_entropy, kl, masked_mean
from beamkd.models import SceneGenerator
from beamkd.models.scene import Scene
from beamkd.training import FitConfig
from beamkd.training.fit import where


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """How the centre makes scenes, and learns from them."""

    batches: int = 60
    """Of scenes, each by a new generator; after each the centre's network learns from all that there are."""
    batch_size: int = 64
    steps: int = 30
    """Of a generator; the best batch that it made is kept."""
    learning_rate: float = 1e-3
    """Of its steps, by Adam."""
    statistics: float = 1.0
    """λ₁: weight of the distance of layers' statistics."""
    disagreement: float = 0.5
    """λ₂: weight of the divergence between the ensemble and the centre's network, where they name unlike beams."""
    passes: int = 1
    """Of the centre's network over all scenes, after each batch."""
    student_rate: float = 3e-3
    """Its learning rate, at first."""
    temperature: float = 20.0
    """T of its KL divergence."""
    boost: float = 0.0
    """Co-Boosting, if more than 0: steps of nodes' weights in the ensemble."""
    nudge: float = 0.0
    """Likewise: steps of the generator's noise to where the ensemble is unsure, in standard deviations."""


DENSE = Synthesis()
CO_BOOSTING = Synthesis(boost=0.1, nudge=0.1)


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """The models that nodes have handed over, one function of scenes.

    Attributes:
      kinds: those of the nodes' groups.
      centre: of the centre's network.
      beams: M.
      said: by group, weights and metadata of its nodes, [nodes, ...].
    """

    kinds: Sequence[Kind]
    centre: Kind
    beams: int
    said: Sequence[dict[str, Any]]

    def outputs(self, scenes: Scene) -> list[Output]:
        """By group, what its nodes' models say of scenes, [nodes, B, ...]."""

        def of(kind, says):
            batch = self._seen_by(kind)(scenes)
            return jax.vmap(lambda params: kind.forward(params, batch, None))(says["weights"])

        return [of(kind, says) for kind, says in zip(self.kinds, self.said, strict=True)]

    def student_sees(self, scenes: Scene) -> Batch:
        """Scenes as the centre's network takes them."""
        return self._seen_by(self.centre)(scenes)

    def statistics(self, outputs: Sequence[Output], there: Array) -> Array:
        """How far layers are from nodes' metadata, mean over the nodes that are there."""

        def of(output, says):
            layers = {"features": output.features, "logits": output.logits, **output.layers}
            return jax.vmap(statistics_of_layers)(layers, says["metadata"].layers)

        each = jnp.concatenate([of(*pair) for pair in zip(outputs, self.said, strict=True)])
        return mean(each, there.astype(jnp.float32))

    def _seen_by(self, kind: Kind) -> Callable[[Scene], Batch]:
        return seen_by(kind, self.centre, *self.kinds)


def logits_of(outputs: Sequence[Output], weights: Array) -> Array:
    """Mean logits of an ensemble [B, J + 1, M], with `weights` [nodes]."""
    return mean(jnp.concatenate([output.logits for output in outputs]), weights)


def dense(kinds: Sequence[Kind], epochs: int = 1, synthesis: Synthesis = DENSE) -> Strategy:
    """The centre's network learns the mean of all models' logits on scenes that are made for that.

    Models and metadata cross once: one round, in which nodes train to their end, is enough.

    Args:
      kinds: those of the nodes' groups, which the centre knows beforehand.
      epochs: of a node on its own windows, in a round.
      synthesis: of scenes, and what the centre learns from them.
    """
    name = "co_boosting" if synthesis.boost else "dense"

    def teach(kind, key, own, mine, heard):
        said, active = heard
        ends = np.cumsum([len(jax.tree.leaves(says)[0]) for says in said])[:-1]
        parts = zip(said, jnp.split(active, ends), strict=True)
        sound = [jax.tree.map(lambda leaf, own=own: placeheld(leaf, own), says) for says, own in parts]
        beams = output_of(kind, mine.params, own).logits.shape[-1]
        learned = learned_from(Ensemble(kinds, kind, beams, sound), key, mine.params, active, synthesis)
        return Global(where(active.any(), learned, mine.params))

    exchange = Exchange(begin, given, None, models_and_metadata(epochs), teach, central=True, apart=True)
    return by_exchange(name, exchange)


def placeheld(leaf: Array, there: Array) -> Array:
    """Ones in place of what does not count: a deviation of 0 has no finite gradient."""
    return jnp.where(there.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 1)


def learned_from(ensemble: Ensemble, key: Array, params: Any, there: Array, synthesis: Synthesis) -> Any:
    """Weights of the centre's network after all batches of scenes, beginning with `params`.

    Args:
      ensemble: nodes' models.
      key: of all that is drawn.
      params: the weights.
      there: which nodes' models count, [nodes] bool.
      synthesis: how.
    """
    kind, size, rows = ensemble.centre, synthesis.batch_size, synthesis.batches * synthesis.batch_size
    config = FitConfig(synthesis.batches * synthesis.passes, size, learning_rate=synthesis.student_rate)
    loss = functools.partial(kl, temperature=synthesis.temperature)
    task = distillation_task(kind.forward, select, config, loss)

    def make(key, params, weights):
        scenes, weights = synthesized(ensemble, key, params, weights, there, synthesis)
        return (ensemble.student_sees(scenes), logits_of(ensemble.outputs(scenes), weights)), weights

    def one(number, carry):
        learner, pool, weights = carry
        to_make, to_learn = jax.random.split(jax.random.fold_in(key, number))
        new, weights = make(to_make, learner.params, weights)
        add = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=number * size, axis=0)
        pool = jax.tree.map(add, pool, new)
        made = jnp.arange(rows) < (number + 1) * size
        learner = learn(task, learner, to_learn, pool, Rows(jnp.arange(rows), made), synthesis.passes)
        return learner, pool, weights

    weights = there.astype(jnp.float32)
    one_batch, _ = jax.eval_shape(make, key, params, weights)
    pool = jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape[1:]), leaf.dtype), one_batch)
    return jax.lax.fori_loop(0, synthesis.batches, one, (beginner(config, params), pool, weights))[0].params


def synthesized(
    ensemble: Ensemble, key: Array, params: Any, weights: Array, there: Array, synthesis: Synthesis
) -> tuple[Scene, Array]:
    """A batch of scenes that a new generator has made, and nodes' weights in the ensemble after it.

    Args:
      ensemble: nodes' models.
      key: of the generator, its noise and the beams that scenes are to have.
      params: of the centre's network.
      weights: of nodes in the ensemble, [nodes].
      there: which nodes there are, [nodes] bool.
      synthesis: how.
    """
    to_init, to_noise, to_beams = jax.random.split(key, 3)
    generator = SceneGenerator(frames=ensemble.centre.observed)
    noise = jax.random.normal(to_noise, (synthesis.batch_size, generator.noise))
    beams = jax.random.randint(to_beams, (synthesis.batch_size,), 0, ensemble.beams)
    optimizer = optax.adam(synthesis.learning_rate)

    def loss(made):
        scenes = generator.apply(*made)
        outputs = ensemble.outputs(scenes)
        logits = logits_of(outputs, weights)
        hard = 1 - jnp.exp(-jax.lax.stop_gradient(cross_entropy(logits[:, 0], beams))) if synthesis.boost else 1.0
        total = (hard * cross_entropy(logits[:, 0], beams)).mean()
        total += synthesis.statistics * ensemble.statistics(outputs, there)
        student = ensemble.centre.forward(params, ensemble.student_sees(scenes), None).logits
        unlike = student.argmax(-1) != logits.argmax(-1)
        return total - synthesis.disagreement * masked_mean(kl(student, logits, 1.0), unlike)

    def step(_, carry):
        made, state, best, least = carry
        now, gradient = jax.value_and_grad(loss)(made)
        best = where(now < least, made, best)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(made, updates), state, best, jnp.minimum(now, least)

    made = generator.init(to_init, noise), noise
    begun = made, optimizer.init(made), made, jnp.float32(jnp.inf)
    params_, noise = jax.lax.fori_loop(0, synthesis.steps, step, begun)[2]
    if synthesis.boost:
        noise = nudged(ensemble, lambda noise: generator.apply(params_, noise), noise, weights, synthesis.nudge)
        outputs = ensemble.outputs(generator.apply(params_, noise))
        weights = boosted(outputs, beams, weights, there, synthesis.boost)
    return generator.apply(params_, noise), weights


def nudged(ensemble: Ensemble, make: Callable[[Array], Scene], noise: Array, weights: Array, length: float) -> Array:
    """Noise [B, N] after a step towards where the ensemble is less sure of what `make` makes of it."""

    def unsure(noise):
        shares = jax.nn.softmax(logits_of(ensemble.outputs(make(noise)), weights))
        return jax.scipy.special.entr(shares).sum()

    return noise + length * jnp.sign(jax.grad(unsure)(noise))


def boosted(outputs: Sequence[Output], beams: Array, weights: Array, there: Array, length: float) -> Array:
    """Weights [nodes] after a step along the sign of their gradient, by which the ensemble names `beams` [B] better."""

    def loss(weights):
        return cross_entropy(logits_of(outputs, weights)[:, 0], beams).mean()

    moved = jnp.maximum(weights - length * jnp.sign(jax.grad(loss)(weights)), 0) * there
    return jnp.where(moved.sum() > 0, moved, weights)
