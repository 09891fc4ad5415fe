"""A node teaches itself, as in born-again networks (Furlanello et al., ICML 2018), but in every round."""

import functools

from beamkd.collab.exchange import Exchange
from beamkd.collab.strategies.answers import Digest, answers, digested
from beamkd.collab.strategies.local import begin, nothing, unmoved
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.losses import kl


def self_distillation(alpha: float = 0.5, temperature: float = 2.0, epochs: int = 1) -> Strategy:
    """Each node learns from its labels, and from what it said of its own windows after the round before.

    Args:
      alpha: weight of that against the labels.
      temperature: T of the KL divergence.
      epochs: in a round.
    """
    loss = functools.partial(kl, temperature=temperature)

    def work(kind, key, own, mine, heard):
        digest = Digest(len(own.train.mask), loss, epochs, kind.fit, alpha)
        said = answers(kind, mine.params, own, own.train)
        return digested(kind, digest, mine, key, own, own.train, said), {}

    return by_exchange("self", Exchange(node=begin, centre=nothing, tell=None, work=work, learn=unmoved))
