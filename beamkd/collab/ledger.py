"""What a strategy costs: the bytes that cross each link, counted from the messages."""

import dataclasses
from typing import Any

import jax
import numpy as np

from beamkd.collab.messages import Message, size_of


@dataclasses.dataclass
class Ledger:
    """Bytes by link and round.

    Attributes:
      rounds: of each round the bytes of all messages on a link, by its name, [seeds] each.
    """

    rounds: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)

    def add(self, number: int, state: Any, messages: tuple[Message, ...]) -> None:
        """Count a round's messages; takes what `run_rounds` calls `after` with."""
        found: dict[str, np.ndarray] = {}
        for message in messages:
            one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), message.arrays)
            sent = size_of(one) * np.asarray(message.receivers, np.int64).sum(1)
            found[message.link] = found.get(message.link, 0) + sent
        self.rounds.append(found)

    def total(self, link: str) -> np.ndarray:
        """Bytes on a link over all rounds, [seeds]."""
        return sum((found.get(link, 0) for found in self.rounds), np.int64(0))
