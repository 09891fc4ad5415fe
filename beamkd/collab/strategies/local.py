"""Nobody learns from anybody: the lower baseline."""

from beamkd.base import Array
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import Learner, beginner, learn
from beamkd.collab.nodes import Kind, Own
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.training import supervised_task


def local(epochs: int = 1) -> Strategy:
    """Each node trains on its own windows alone.

    Args:
      epochs: in a round.
    """

    def work(kind, key, own, mine, heard):
        return on_own_windows(kind, mine, key, own, epochs), {}

    return by_exchange(
        "local",
        Exchange(node=begin, centre=nothing, tell=None, work=work, learn=unmoved),
    )


def on_own_windows(kind: Kind, mine: Learner, key: Array, own: Own, epochs: int = 1) -> Learner:
    """A learner after some epochs on the labels of its own windows."""
    task = supervised_task(kind.forward, kind.take, kind.fit)
    return learn(task, mine, key, own.data, own.train, epochs)


def begin(kind, key, own, mine, heard):
    """A node that has not learned anything yet."""
    return beginner(kind.fit, mine)


def nothing(kind, key, own, mine, heard):
    """A centre that has nothing."""
    return {}


def unmoved(kind, key, own, mine, heard):
    """A centre that learns nothing."""
    return mine
