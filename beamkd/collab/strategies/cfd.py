"""Compressed federated distillation (Sattler et al., arXiv 2012.00632): a fixed set of windows, answers of a byte."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beamkd.base import Array
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import Learner, beginner
from beamkd.collab.strategies.answers import Digest, answers, digested
from beamkd.collab.strategies.local import begin, on_own_windows
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.losses import cross_entropy, soft_cross_entropy
from beamkd.training.fit import where


@struct.dataclass
class Labeller:
    """What the centre has.

    Attributes:
      learner: its own network.
      labels: the beams that it says of all shared windows, [N, J + 1] uint8.
      known: whether it has learned anything.
    """

    learner: Learner
    labels: Array
    known: Array

    @property
    def params(self) -> Any:
        """Of its network."""
        return self.learner.params


def cfd(epochs: int = 1, digests: int = 1, centre_digests: int = 20) -> Strategy:
    """Nodes say the best beam of each shared window, the centre learns their shares and says what it finds best itself.

    That is the paper's quantisation to one bit; its differential coding, by which only what has changed crosses, is
    left out.

    Args:
      epochs: of a node on its own windows, in a round.
      digests: of a node on what the centre says of the shared windows, in a round; more than one make it too sure.
      centre_digests: of the centre on what nodes say of them.
    """
    hard = Digest(0, lambda logits, labels: cross_entropy(logits, labels.astype(int)), digests)
    soft = Digest(0, soft_cross_entropy, centre_digests)

    def centre(kind, key, own, mine, heard):
        said = _best(kind, mine, own)
        return Labeller(beginner(soft.fit, mine), said, jnp.bool_(False))

    def tell(kind, key, own, mine, heard):
        return {"labels": mine.labels, "known": mine.known}

    def work(kind, key, own, mine, heard):
        to_digest, to_learn = jax.random.split(key)
        knowing = digested(kind, hard, mine, to_digest, own, own.shared, heard["labels"])
        mine = where(heard["known"], knowing.replace(epoch=mine.epoch), mine)
        mine = on_own_windows(kind, mine, to_learn, own, epochs)
        return mine, {"labels": _best(kind, mine.params, own)}

    def teach(kind, key, own, mine, heard):
        said, active = heard
        beams = jax.eval_shape(lambda: answers(kind, mine.params, own, own.shared)).shape[-1]
        votes = jax.nn.one_hot(said["labels"], beams) * active[:, None, None, None]
        shares = votes.sum(0) / jnp.maximum(active.sum(), 1)
        taught = where(active.any(), digested(kind, soft, mine.learner, key, own, own.shared, shares), mine.learner)
        return Labeller(taught, _best(kind, taught.params, own), mine.known | active.any())

    return by_exchange("cfd", Exchange(begin, centre, tell, work, teach))


def _best(kind, params, own) -> Array:
    """The beams that a network finds best on all shared windows, [N, J + 1] uint8."""
    return answers(kind, params, own, own.shared).argmax(-1).astype(jnp.uint8)
