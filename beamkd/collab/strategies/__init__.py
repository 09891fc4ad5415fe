"""Strategies of collaborative learning, a file each."""

from collections.abc import Callable

from beamkd.collab.strategies.fedavg import fedavg
from beamkd.collab.strategies.fedmd import dsfl, fedmd
from beamkd.collab.strategies.local import local
from beamkd.collab.strategy import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "local": local,
    "fedavg": fedavg,
    "fedmd": fedmd,
    "dsfl": dsfl,
}
"""By name: what makes a strategy, with its own settings."""
