"""What a strategy is made of: functions of one node or of the centre, and what crosses between them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from beamkd.base import Array
from beamkd.collab.messages import Message
from beamkd.collab.nodes import Federation, inner


def as_up_and_down(
    told: Any, said: Sequence[Any], active: Sequence[Array], addressed: bool = False
) -> tuple[Message, ...]:
    """The messages of a round in which the centre tells nodes something, each something else if `addressed`.

    And each node says something to it.
    """
    hears = np.concatenate(active, axis=1).astype(int)
    if not addressed:
        told, hears = jax.tree.map(lambda leaf: leaf[:, None], told), hears.sum(1, keepdims=True)
    down = () if told is None else (Message("down", told, hears),)
    ups = (Message("up", says, each.astype(int)) for says, each in zip(said, active, strict=True))
    return down + tuple(message for message in ups if jax.tree.leaves(message.arrays))


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A strategy whose nodes, in each round, hear something from the centre, work, and say something to it.

    Its functions are pure, and of one node or of the centre, for one seed: function(kind, key, own, mine, heard), with
    `mine` what it has after the round before, its initial weights before the first one, and `heard` as follows.

    Attributes:
      node: of a node, before the first round, hears nothing -> what it has.
      centre: the same of the centre.
      tell: of the centre, hears nothing -> what it tells the nodes; None where it never tells anything.
      work: of a node, hears that -> (what it has, what it says).
      learn: of the centre, hears (what nodes say [nodes, ...], which are active [nodes] bool) -> what it has.
      central: whether nodes predict by the centre's network, once there is one; otherwise by their own. Its weights
        are the attribute `params` of what the centre, or a node, has.
      addressed: whether the centre tells each node something else, [nodes, ...].
      alike: whether all must have the same network.
      apart: whether the centre hears what nodes say as a tuple by group; it need not be of one shape then.
      messages: which messages these are: messages(told, said, active) of lists by group; up and down if None.
    """

    node: Callable
    centre: Callable
    tell: Callable | None
    work: Callable
    learn: Callable
    central: bool = False
    addressed: bool = False
    alike: bool = False
    apart: bool = False
    messages: Callable[[Any, Sequence[Any], Sequence[Array]], tuple[Message, ...]] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A round of an exchange that is not computed: programs of one node, or of the centre, and shapes.

    Attributes:
      exchange: which.
      federation: among whom.
    """

    exchange: Exchange
    federation: Federation

    @functools.cached_property
    def node(self) -> list[tuple[ClosedJaxpr, Any]]:
        """Before the first round, of each group; with what a node then has."""
        groups = self.federation.groups
        return [group.traced(self.exchange.node, inner(group.model.params, 2), None) for group in groups]

    @functools.cached_property
    def centre(self) -> tuple[ClosedJaxpr, Any]:
        """Before the first round; with what the centre then has."""
        hub = self.federation.centre
        return hub.traced(self.exchange.centre, inner(hub.model.params, 1), None)

    @functools.cached_property
    def tell(self) -> tuple[ClosedJaxpr | None, Any]:
        """None where the centre tells nothing; with what it tells, nodes in front where it is addressed."""
        tell, (_, has) = self.exchange.tell, self.centre
        return self.federation.centre.traced(tell, has, None) if tell else (None, None)

    @property
    def told(self) -> Any:
        """What a node hears."""
        told = self.tell[1]
        return inner(told, 1) if self.exchange.addressed else told

    @functools.cached_property
    def work(self) -> list[tuple[ClosedJaxpr, Any]]:
        """Of each group; with what a node then has, and what it says."""
        groups, work = self.federation.groups, self.exchange.work
        return [group.traced(work, has, self.told) for group, (_, has) in zip(groups, self.node, strict=True)]

    @property
    def says(self) -> list[Any]:
        """What a node of each group says."""
        return [says for _, (_, says) in self.work]

    @functools.cached_property
    def learn(self) -> ClosedJaxpr:
        """Of the centre."""
        hub, sizes = self.federation.centre, [group.size for group in self.federation.groups]
        said = tuple(map(stacked, self.says, sizes))
        heard = said if self.exchange.apart else stacked(self.says[0], self.federation.nodes)
        active = jax.ShapeDtypeStruct((self.federation.nodes,), bool)
        return hub.traced(self.exchange.learn, self.centre[1], (heard, active))[0]


traced = functools.lru_cache(maxsize=1)(Traced)
"""The round of an exchange among nodes; the last one is kept."""


def stacked(tree: Any, *counts: int) -> Any:
    """Shapes of so many, stacked."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*counts, *leaf.shape), leaf.dtype), tree)
