"""Nobody learns from anybody: the lower baseline."""

from beamkd.collab.learning import beginner, learn
from beamkd.collab.strategy import Exchange, Strategy, by_exchange
from beamkd.training import supervised_task


def local(epochs: int = 1) -> Strategy:
    """Each node trains on its own windows alone.

    Args:
      epochs: in a round.
    """

    def work(kind, key, own, mine, heard):
        task = supervised_task(kind.forward, kind.take, kind.fit)
        return learn(task, mine, key, own.data, own.train, epochs), {}

    return by_exchange(
        "local",
        Exchange(node=begin, centre=nothing, tell=None, work=work, learn=unmoved),
    )


def begin(kind, key, own, mine, heard):
    """A node that has not learned anything yet."""
    return beginner(kind.fit, mine)


def nothing(kind, key, own, mine, heard):
    """A centre that has nothing."""
    return {}


def unmoved(kind, key, own, mine, heard):
    """A centre that learns nothing."""
    return mine
