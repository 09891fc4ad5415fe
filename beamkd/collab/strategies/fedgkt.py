"""A large head at the centre learns from codes of nodes' frames, and teaches them: FedGKT (He et al., NeurIPS 2020)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from beamkd.base import MISSING, Array, Output, Rows
from beamkd.collab.aggregate import counted
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import Learner, beginner, learn
from beamkd.collab.nodes import Kind, Own
from beamkd.collab.strategies.answers import Digest, of_each, taught
from beamkd.collab.strategies.local import begin
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.losses import cross_entropy, kl, masked_mean
from beamkd.models.layers import Gru, Linear
from beamkd.training import FitConfig, Task, mean_over_labels
from beamkd.training.fit import where


class Head(nn.Module):
    """Beams from codes of frames: a GRU and a read-out, larger than a node's."""

    beams: int
    future: int
    hidden: int = 128

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        """Logits [B, J + 1, M] from codes [B, L, E]; those of future slots are zero."""
        steps = jnp.pad(codes, ((0, 0), (0, self.future), (0, 0)))
        return Linear(self.beams)(Gru(self.hidden)(steps)[:, -1 - self.future :])


@struct.dataclass
class Known:
    """What a node says of its N windows, and with other axes in front what the centre hears.

    Attributes:
      codes: of their frames, [N, L, E].
      logits: [N, J + 1, M].
      labels: [N, J + 1] int32.
      mask: [N] bool, False where there is no window.
    """

    codes: Array
    logits: Array
    labels: Array
    mask: Array


@struct.dataclass
class Server:
    """What the centre has.

    Attributes:
      learner: its head.
      logits: the head's answers on each node's windows, [nodes, N, J + 1, M].
      known: whether there are any yet.
    """

    learner: Learner
    logits: Array
    known: Array

    @property
    def params(self) -> Any:
        """Of its head."""
        return self.learner.params


HEAD = FitConfig(batch_size=64, schedule="constant", l2=0.0)
"""Training of the head."""


def fedgkt(
    nodes: int, output: Output, epochs: int = 1, alpha: float = 0.5, temperature: float = 2.0, head: FitConfig = HEAD
) -> Strategy:
    """Nodes say codes, logits and labels of their windows; the centre's head learns them, and nodes learn its logits.

    Nodes may have unlike sensors and encoders, with codes of one size. They predict by their own networks. Codes and
    labels of all windows leave the node.

    Args:
      nodes: how many.
      output: what a node's network gives for all of its windows [N], or the shapes of that.
      epochs: of nodes and of the head, in a round.
      alpha: weight of the other's logits against the labels, for both.
      temperature: T of the KL divergence, likewise.
      head: training of the head.
    """
    loss = functools.partial(kl, temperature=temperature)
    windows, steps, beams = output.logits.shape
    module = Head(beams, steps - 1)

    def centre(kind, key, own, mine, heard):
        params = module.init(key, jnp.zeros(output.layers["codes"].shape))
        return Server(beginner(head, params), jnp.zeros((nodes, windows, steps, beams)), jnp.bool_(False))

    def tell(kind, key, own, mine, heard):
        return {"logits": mine.logits, "known": jnp.broadcast_to(mine.known, (nodes,))}

    def work(kind, key, own, mine, heard):
        digest = Digest(windows, loss, epochs, kind.fit, alpha)
        mine = taught(kind, digest, mine, key, own, own.train, heard["logits"], heard["known"])
        return mine, known_of(kind, mine.params, own)

    def teach(kind, key, own, mine, heard):
        said, active = heard
        said = jax.tree.map(lambda leaf: counted(leaf, active), said)
        flat = jax.tree.map(lambda leaf: leaf.reshape(nodes * windows, *leaf.shape[2:]), said)
        task = head_task(module, alpha, temperature, head)
        learner = learn(task, mine.learner, key, flat, Rows(jnp.arange(nodes * windows), flat.mask), epochs)
        learner = where(active.any(), learner, mine.learner)
        logits = jax.lax.map(lambda codes: module.apply(learner.params, codes), said.codes)
        return Server(learner, logits, mine.known | active.any())

    return by_exchange("fedgkt", Exchange(begin, centre, tell, work, teach, addressed=True))


def known_of(kind: Kind, params: Any, own: Own) -> Known:
    """What a node says of its own windows."""

    def said(batch):
        output = kind.forward(params, batch, None)
        return Known(output.layers["codes"], output.logits, batch.labels, batch.mask)

    return of_each(said, kind, own, own.train)


def head_task(module: Head, alpha: float, temperature: float, config: FitConfig) -> Task:
    """Train a head on what nodes have said: α · KL to their logits + (1 − α) · cross-entropy of the labels."""
    on_labels = mean_over_labels(cross_entropy)

    def loss(params, said, key, **axis):
        logits = module.apply(params, said.codes)
        near = masked_mean(kl(logits, said.logits, temperature), said.mask, **axis)
        right = on_labels(logits, said.labels, **axis)
        return alpha * near + (1 - alpha) * right, {"answers": near, "labels": right}

    def take(said, rows):
        chosen = jax.tree.map(lambda leaf: leaf[rows.index], said)
        mask = chosen.mask & rows.mask
        return chosen.replace(mask=mask, labels=jnp.where(mask[:, None], chosen.labels, MISSING))

    return Task(loss, take, config)
