"""A large network at the centre, which sees all sensors and windows, teaches each node on the node's own windows."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beamkd.base import Array, Rows
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import Learner
from beamkd.collab.strategies.answers import Digest, answers, draw, taught
from beamkd.collab.strategies.local import begin
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.losses import kl


@struct.dataclass
class Pupil:
    """What a node has.

    Attributes:
      learner: its network.
      asked: windows of its own that it has asked the centre about, B of them.
    """

    learner: Learner
    asked: Rows

    @property
    def params(self) -> Any:
        """Of its network."""
        return self.learner.params


@struct.dataclass
class Teacher:
    """What the centre has.

    Attributes:
      params: of its network.
      logits: its answers to each node, [nodes, B, J + 1, M].
      known: whether there are any yet.
    """

    params: Any
    logits: Array
    known: Array


def central_kd(
    nodes: int, windows: int = 256, epochs: int = 1, alpha: float = 0.6, temperature: float = 2.0
) -> Strategy:
    """Nodes ask about windows of theirs, and learn from their labels and from what the centre answers.

    The centre's network is one that has learned before, and stays as it is. A node sends numbers of windows
    alone: the centre has seen the same slots by its own sensors.

    Args:
      nodes: how many.
      windows: that a node asks about, in a round.
      epochs: on these, in a round.
      alpha: weight of the answers against the labels.
      temperature: T of the KL divergence.
    """
    loss = functools.partial(kl, temperature=temperature)

    def node(kind, key, own, mine, heard):
        return Pupil(begin(kind, key, own, mine, heard), draw(key, own.train, windows))

    def centre(kind, key, own, mine, heard):
        shape = jax.eval_shape(lambda: answers(kind, mine, own, draw(key, own.shared, windows))).shape
        return Teacher(mine, jnp.zeros((nodes, *shape)), jnp.bool_(False))

    def tell(kind, key, own, mine, heard):
        return {"logits": mine.logits, "known": jnp.broadcast_to(mine.known, (nodes,))}

    def work(kind, key, own, mine, heard):
        to_learn, to_draw = jax.random.split(key)
        digest = Digest(windows, loss, epochs, kind.fit, alpha)
        answered = heard["logits"], heard["known"]
        learner = taught(kind, digest, mine.learner, to_learn, own, mine.asked, *answered)
        asked = draw(to_draw, own.train, windows)
        return Pupil(learner, asked), {"windows": asked}

    def answer(kind, key, own, mine, heard):
        said, active = heard
        logits = jax.lax.map(lambda rows: answers(kind, mine.params, own, rows), said["windows"])
        return mine.replace(logits=logits, known=active.any())

    return by_exchange("central_kd", Exchange(node, centre, tell, work, answer, addressed=True))
