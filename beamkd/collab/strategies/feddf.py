"""The centre's network learns from what nodes answer: FedDF (Lin et al., NeurIPS 2020)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beamkd.base import Array, Rows
from beamkd.collab.aggregate import mean
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import Learner, beginner
from beamkd.collab.strategies.answers import Digest, answers, digested, draw, epochs_of
from beamkd.collab.strategies.local import begin, on_own_windows
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.losses import kl
from beamkd.training.fit import where


@struct.dataclass
class Taught:
    """What the centre has.

    Attributes:
      learner: its own network.
      ask: shared windows that nodes are to answer on next.
    """

    learner: Learner
    ask: Rows

    @property
    def params(self) -> Any:
        """Of its network."""
        return self.learner.params


def feddf(
    windows: int = 256, epochs: int = 1, steps: int = 80, aggregate: Callable[[Any, Array], Any] = mean
) -> Strategy:
    """Nodes train alone; the centre's network learns the mean of their logits on shared windows, and all predict by it.

    Nodes may be unlike. Therefore, and other than in the paper, there is no mean of weights to begin a round with: the
    centre goes on from its network of the round before, and nodes from theirs.

    Args:
      windows: shared ones, in a round.
      epochs: of a node on its own windows, in a round.
      steps: of the centre on the answers, in a round.
      aggregate: one of `beamkd.collab.aggregate`, of logits.
    """
    digest = Digest(windows, functools.partial(kl, temperature=1.0), epochs_of(steps, windows))

    def centre(kind, key, own, mine, heard):
        return Taught(beginner(digest.fit, mine), draw(key, own.shared, windows))

    def tell(kind, key, own, mine, heard):
        return {"ask": mine.ask}

    def work(kind, key, own, mine, heard):
        mine = on_own_windows(kind, mine, key, own, epochs)
        return mine, {"logits": answers(kind, mine.params, own, heard["ask"])}

    def teach(kind, key, own, mine, heard):
        said, active = heard
        to_digest, to_draw = jax.random.split(key)
        targets = aggregate(said["logits"], active.astype(jnp.float32))
        taught = digested(kind, digest, mine.learner, to_digest, own, mine.ask, targets)
        return Taught(where(active.any(), taught, mine.learner), draw(to_draw, own.shared, windows))

    return by_exchange("feddf", Exchange(begin, centre, tell, work, teach, central=True))
