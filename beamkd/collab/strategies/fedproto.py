"""Nodes agree on what windows of a beam look like to them: FedProto (Tan et al., AAAI 2022)."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from flax import struct

from beamkd.base import Array, Output
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import learn
from beamkd.collab.nodes import Kind, Own
from beamkd.collab.strategies.local import begin
from beamkd.collab.strategy import Strategy, UnlikeNodes, by_exchange
from beamkd.losses import masked_mean
from beamkd.training import Task, supervised_task
from beamkd.training.batches import over_rows


@struct.dataclass
class Prototypes:
    """Mean features of windows by their current beam.

    Attributes:
      features: [M, D], zeros where there is no window.
      windows: how many, [M] float32.
    """

    features: Array
    windows: Array


def fedproto(outputs: Sequence[Output], weight: float = 1.0, epochs: int = 1) -> Strategy:
    """Nodes learn from their labels, and bring features of windows near to the mean features of all nodes' windows.

    Features must be as many in all networks, which may be unlike otherwise.

    Args:
      outputs: what a node's network of each group gives for its windows, or the shapes of that.
      weight: λ of the squared distance between features and those of their beam, mean over windows and features.
      epochs: in a round.

    Raises:
      UnlikeNodes: networks have unequal numbers of features.
    """
    sizes = list(dict.fromkeys(output.features.shape[-1] for output in outputs))
    if len(sizes) > 1:
        raise UnlikeNodes(f"fedproto: expected networks with as many features, found {' and '.join(map(str, sizes))}")

    def centre(kind, key, own, mine, heard):
        beams = outputs[0].logits.shape[-1]
        return Prototypes(jnp.zeros((beams, *sizes)), jnp.zeros(beams))

    def tell(kind, key, own, mine, heard):
        return mine

    def work(kind, key, own, mine, heard):
        task = towards(supervised_task(kind.forward, kind.take, kind.fit), kind, heard, weight)
        mine = learn(task, mine, key, own.data, own.train, epochs)
        return mine, prototypes(kind, mine.params, own)

    def gather(kind, key, own, mine, heard):
        said, active = heard
        windows = jnp.where(active[:, None], said.windows, 0)
        total = windows.sum(0)
        weighted = jnp.where(active[:, None, None], said.features * windows[..., None], 0)
        features = weighted.sum(0) / jnp.maximum(total, 1)[:, None]
        known = total > 0
        return Prototypes(jnp.where(known[:, None], features, mine.features), jnp.where(known, total, mine.windows))

    return by_exchange("fedproto", Exchange(begin, centre, tell, work, gather))


def prototypes(kind: Kind, params, own: Own) -> Prototypes:
    """Those of a node's own windows."""

    def sums(batch):
        member = (batch.labels[:, 0, None] == jnp.arange(batch.power.shape[-1])) & batch.mask[:, None]  # [B, M]
        features = kind.forward(params, batch, None).features
        return jnp.matmul(member.T.astype(jnp.float32), features, precision="highest"), member.sum(0)

    features, windows = (found.sum(0) for found in over_rows(sums, own.data, own.train, kind.take))
    return Prototypes(features / jnp.maximum(windows, 1)[:, None], windows.astype(jnp.float32))


def towards(task: Task, kind: Kind, known: Prototypes, weight: float) -> Task:
    """A task whose loss has `weight` times the squared distance of features from the prototype of their beam, too."""

    def loss(params, batch, key, **axis):
        total, parts = task.loss(params, batch, key, **axis)
        features = kind.forward(params, batch, key, **axis).features
        beam = jnp.maximum(batch.labels[:, 0], 0)
        counts = (batch.labels[:, 0] >= 0) & (known.windows[beam] > 0)
        apart = jnp.square(features - known.features[beam]).mean(-1)
        distance = masked_mean(apart, counts, **axis)
        return total + weight * distance, parts | {"prototypes": distance}

    return dataclasses.replace(task, loss=loss)
