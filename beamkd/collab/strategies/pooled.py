"""All data at the centre: the upper baseline, which collaborative learning is to do without."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from beamkd.base import Array
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import beginner
from beamkd.collab.messages import Message
from beamkd.collab.strategies.local import on_own_windows
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.training.batches import over_rows


def pooled(epochs: int = 1) -> Strategy:
    """Nodes hand over their frames and labels once, and all predict by the centre's network, which learns from them.

    It sees the slots of all windows by its own sensors.

    Args:
      epochs: in a round.
    """

    def node(kind, key, own, mine, heard):
        return {"sent": jnp.bool_(False)}

    def centre(kind, key, own, mine, heard):
        return beginner(kind.fit, mine)

    def work(kind, key, own, mine, heard):
        def frames(batch):
            return {name: seen[:, -1] for name, seen in batch.sensors.items()}, batch.labels[:, 0]

        found = over_rows(frames, own.data, own.train, kind.take)
        return {"sent": jnp.bool_(True)}, {"frames": found, "new": ~mine["sent"]}

    def teach(kind, key, own, mine, heard):
        return on_own_windows(kind, mine, key, own, epochs)

    exchange = Exchange(node, centre, None, work, teach, central=True, apart=True, messages=_once)
    return by_exchange("pooled", exchange)


def _once(told: Any, said: Sequence[Any], active: Sequence[Array]) -> tuple[Message, ...]:
    """Frames cross when they are new."""
    return tuple(
        Message("up", says["frames"], (each & says["new"]).astype(int)) for says, each in zip(said, active, strict=True)
    )
