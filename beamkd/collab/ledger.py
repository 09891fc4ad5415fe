"""What a strategy costs: bytes on links, counted from the messages; operations; seconds and energy at given rates."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from beamkd.base import expect_at_least
from beamkd.collab.exchange import traced
from beamkd.collab.messages import Message, size_of
from beamkd.collab.nodes import Federation
from beamkd.collab.strategy import Strategy
from beamkd.training.operations import operations_of


@dataclasses.dataclass(frozen=True)
class Rates:
    """What links and processors do in a second, and what they need for it. Nodes have a link each."""

    up: float = 1.25e6
    """Bytes a second, from a node to the centre: 10 Mbit/s."""
    down: float = 12.5e6
    """Bytes a second, from the centre to a node."""
    between: float = 1.25e6
    """Bytes a second, of all other links."""
    node: float = 1e9
    """FLOP/s of a node."""
    centre: float = 1e12
    """FLOP/s of the centre."""
    joules_per_byte: float = 1e-6
    """Of any link."""
    joules_per_flop: float = 1e-10
    """Of nodes and the centre."""

    def __post_init__(self):
        expect_at_least(self, joules_per_byte=0, joules_per_flop=0)
        expect_at_least(self, up=1, down=1, between=1, node=1, centre=1)

    def of(self, link: str) -> float:
        """Bytes a second of a link, by its name in messages."""
        return {"up": self.up, "down": self.down}.get(link, self.between)


@dataclasses.dataclass(frozen=True)
class Work:
    """Floating-point operations of a round, as `operations_of` counts them.

    Attributes:
      nodes: of each node that takes part, [nodes].
      centre: of the centre.
      begin: of nodes and the centre together, before the first round.
    """

    nodes: np.ndarray
    centre: float
    begin: float


@dataclasses.dataclass
class Ledger:
    """Bytes by link and round.

    Attributes:
      rounds: of each round the bytes of all messages on a link, by its name, [seeds] each.
      longest: of each round the bytes of the longest of these.
    """

    rounds: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    longest: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)

    def add(self, number: int, state: Any, messages: tuple[Message, ...]) -> None:
        """Count a round's messages; takes what `run_rounds` calls `after` with."""
        found: dict[str, np.ndarray] = {}
        longest: dict[str, np.ndarray] = {}
        for message in messages:
            one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), message.arrays)
            size, receivers = size_of(one), np.asarray(message.receivers, np.int64)
            found[message.link] = found.get(message.link, 0) + size * receivers.sum(1)
            longest[message.link] = np.maximum(longest.get(message.link, 0), size * (receivers > 0).any(1))
        self.rounds.append(found)
        self.longest.append(longest)

    def total(self, link: str) -> np.ndarray:
        """Bytes on a link over all rounds, [seeds]."""
        return sum((found.get(link, 0) for found in self.rounds), np.int64(0))

    def seconds(self, work: Work, rates: Rates) -> np.ndarray:
        """Of all rounds, [seeds]: each waits for the slowest node and the longest message on each link in turn."""
        links = sum(longest[link] / rates.of(link) for longest in self.longest for link in longest)
        return links + len(self.rounds) * (work.nodes.max() / rates.node + work.centre / rates.centre)

    def joules(self, work: Work, rates: Rates) -> np.ndarray:
        """Of all rounds and what comes before them, [seeds], if all nodes take part."""
        sent = sum(found[link] for found in self.rounds for link in found)
        flops = work.begin + len(self.rounds) * (work.nodes.sum() + work.centre)
        return sent * rates.joules_per_byte + flops * rates.joules_per_flop


def work_of(strategy: Strategy, federation: Federation) -> Work:
    """Operations of a strategy that is made of an exchange."""
    round_ = traced(strategy.exchange, federation)
    sizes = [group.size for group in federation.groups]

    def each(programs: Sequence[tuple[ClosedJaxpr, Any]]) -> np.ndarray:
        return np.repeat([operations_of(program) for program, _ in programs], sizes)

    tell, _ = round_.tell
    told = operations_of(tell) if tell else 0.0
    begin = operations_of(round_.centre[0]) + each(round_.node).sum()
    return Work(each(round_.work), told + operations_of(round_.learn), begin)
