"""How nodes and a centre learn from one another: a strategy, its rounds, and what crosses in them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.extend.core import ClosedJaxpr

from beamkd.base import Array, InputError, Model
from beamkd.collab.aggregate import finite, suspected
from beamkd.collab.messages import Message
from beamkd.collab.nodes import Federation, inner, split


class UnlikeNodes(InputError):
    """A strategy that needs nodes that are alike was given others."""


@struct.dataclass
class State:
    """A strategy after some rounds; all that a checkpoint needs.

    Attributes:
      nodes: what the nodes of each group have, [seeds, nodes, ...].
      centre: what the centre has, [seeds, ...].
      refused: in how many rounds what a node said was no finite number, and was left out, [seeds, nodes] int32.
      suspected: in how many it was far from what most nodes said, the same; see `aggregate.suspected`.
      found: what each group's nodes found in the last round, where some lag; None otherwise.
    """

    nodes: tuple[Any, ...]
    centre: Any
    refused: Array
    suspected: Array
    found: Any = None


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Pure functions of arrays.

    Attributes:
      init: init(keys [seeds], federation) -> the state before the first round.
      round: round(keys [seeds], state, federation, active) -> (state, messages). `active` [seeds, nodes] bool: which
        nodes take part; the others keep what they have and say nothing.
      deployed: deployed(state, federation) -> the networks that each group's nodes predict by, [seeds, nodes, ...].
      exchange: what these are made of, where it is an `Exchange`; a network of processes runs that.
    """

    init: Callable[[Array, Federation], State]
    round: Callable[[Array, State, Federation, Array], tuple[State, tuple[Message, ...]]]
    deployed: Callable[[State, Federation], tuple[Model, ...]]
    exchange: "Exchange | None" = None


def as_up_and_down(
    told: Any, sent: Sequence[Any], active: Sequence[Array], addressed: bool = False
) -> tuple[Message, ...]:
    """The messages of a round in which the centre tells nodes something, each something else if `addressed`.

    And each node says something to it.
    """
    hears = np.concatenate(active, axis=1).astype(int)
    if not addressed:
        told, hears = jax.tree.map(lambda leaf: leaf[:, None], told), hears.sum(1, keepdims=True)
    down = () if told is None else (Message("down", told, hears),)
    ups = (Message("up", says, each.astype(int)) for says, each in zip(sent, active, strict=True))
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


def by_exchange(name: str, exchange: Exchange) -> Strategy:
    """The strategy of an exchange; `name` is for what is refused."""
    as_messages = exchange.messages or functools.partial(as_up_and_down, addressed=exchange.addressed)

    def init(keys, federation):
        if exchange.alike and len(federation.groups) > 1:
            raise UnlikeNodes(f"{name}: expected nodes with equal networks, found {len(federation.groups)} kinds")
        if not exchange.apart and len(federation.groups) > 1:
            _check_alike(name, traced_round(exchange, federation).says)
        at_nodes, at_centre = _split(keys, 2)
        nodes = tuple(
            federation.at_nodes(exchange.node, number)(_folded(at_nodes, number), group.model.params, None)
            for number, group in enumerate(federation.groups)
        )
        centre = federation.at_centre(exchange.centre)(at_centre, federation.centre.model.params, None)
        none = np.zeros((federation.seeds, federation.nodes), np.int32)
        return State(nodes, centre, none, none)

    def one_round(keys, state, federation, active):
        active = np.asarray(active)
        to_tell, to_work, to_learn, to_fail, to_hide = _split(keys, 5)
        tells = federation.at_centre(exchange.tell)(to_tell, state.centre, None) if exchange.tell else None
        told = federation.crossed(tells, 1 + exchange.addressed)
        takes_part, nodes, found = federation.by_group(active), [], []
        for number, before in enumerate(state.nodes):
            work = federation.at_nodes(exchange.work, number, exchange.addressed)
            after, says = work(_folded(to_work, number), before, told)
            nodes.append(_where(takes_part[number], after, before))
            found.append(federation.hidden(_folded(to_hide, number), says))
        says = _arriving(federation, to_fail, found, state.found)
        said = [federation.crossed(each, 2) for each in says]
        sound = np.concatenate([_sound(each, active) for each, active in zip(said, takes_part, strict=True)], axis=1)
        heard = tuple(said) if exchange.apart else together(said)
        far = _far(said, federation.by_group(active & sound)) if exchange.apart else suspected(heard, active & sound)
        centre = federation.at_centre(exchange.learn)(to_learn, state.centre, (heard, active & sound))
        kept = tuple(found) if federation.faults and federation.faults.lag else None
        state = State(tuple(nodes), centre, state.refused + (active & ~sound), state.suspected + far, kept)
        messages = as_messages(tells, says, takes_part)
        return state, tuple(federation.sent(message) for message in messages)

    def deployed(state, federation):
        if not exchange.central:
            own = zip(federation.groups, state.nodes, strict=True)
            return tuple(_with(group.model, nodes.params) for group, nodes in own)
        sizes = (group.size for group in federation.groups)
        each = (
            jax.tree.map(lambda leaf, size=size: np.repeat(leaf[:, None], size, 1), state.centre.params)
            for size in sizes
        )
        return tuple(_with(federation.centre.model, params) for params in each)

    return Strategy(init, one_round, deployed, exchange)


def _arriving(federation: Federation, keys: Array, found: list[Any], before: Any) -> list[Any]:
    """What arrives of what the nodes of each group have found."""
    if federation.faults is None:
        return found
    before = [None] * len(found) if before is None else before
    # An empty message fails in no way.
    return [
        federation.faults.said(keys, says, old, first) if jax.tree.leaves(says) else says
        for says, old, first in zip(found, before, federation.firsts, strict=True)
    ]


def _sound(says: Any, active: Array) -> Array:
    """Which of a group's nodes say finite numbers alone, [seeds, nodes] bool."""
    return np.asarray(_finite(says)) if jax.tree.leaves(says) else np.ones_like(active)


_finite = jax.jit(jax.vmap(finite))


def _far(said: Sequence[Any], there: Sequence[Array]) -> Array:
    """Which nodes are suspected, [seeds, nodes], where only those of a group say what can be compared."""
    return np.concatenate([suspected(says, active) for says, active in zip(said, there, strict=True)], axis=1)


def _with(model: Model, params: Any) -> Model:
    """A network with other weights, on the device."""
    return dataclasses.replace(model, params=jax.tree.map(jnp.asarray, params))


@dataclasses.dataclass(frozen=True)
class Traced:
    """A round of an exchange that is not computed: programs of one node, or of the centre.

    Attributes:
      node: before the first round, of each group.
      centre: before the first round.
      tell: None where the centre tells nothing.
      work: of each group.
      says: what a node of each group says, shapes.
      learn: of the centre.
    """

    node: list[ClosedJaxpr]
    centre: ClosedJaxpr
    tell: ClosedJaxpr | None
    work: list[ClosedJaxpr]
    says: list[Any]
    learn: ClosedJaxpr


@functools.lru_cache(maxsize=1)
def traced_round(exchange: Exchange, federation: Federation) -> Traced:
    """A round of an exchange among nodes."""
    hub, groups = federation.centre, federation.groups
    begun = [group.traced(exchange.node, inner(group.model.params, 2), None) for group in groups]
    centre, mine = hub.traced(exchange.centre, inner(hub.model.params, 1), None)
    tell, told = hub.traced(exchange.tell, mine, None) if exchange.tell else (None, None)
    heard = inner(told, 1) if exchange.addressed else told
    worked = [group.traced(exchange.work, own, heard) for group, (_, own) in zip(groups, begun, strict=True)]
    says = [said for _, (_, said) in worked]
    sizes = [group.size for group in groups]
    said = tuple(map(_stacked, says, sizes)) if exchange.apart else _stacked(says[0], federation.nodes)
    active = jax.ShapeDtypeStruct((federation.nodes,), bool)
    learn, _ = hub.traced(exchange.learn, mine, (said, active))
    return Traced([node for node, _ in begun], centre, tell, [work for work, _ in worked], says, learn)


def _stacked(tree: Any, count: int) -> Any:
    """Shapes of so many, stacked."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), tree)


def _check_alike(name: str, said: Sequence[Any]) -> None:
    """Raise `InputError` unless the nodes of all groups say arrays of the same shapes."""
    for leaves in zip(*map(jax.tree.leaves, said), strict=True):
        shapes = dict.fromkeys(leaf.shape for leaf in leaves)
        if len(shapes) > 1:
            found = " and ".join(map(str, shapes))
            raise UnlikeNodes(f"{name}: expected networks whose messages are of one shape, found {found}")


def together(said: Sequence[Any]) -> Any:
    """What the nodes of all groups say, [seeds, nodes, ...]."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *said)


def run_rounds(
    keys: Array,
    strategy: Strategy,
    federation: Federation,
    rounds: int,
    active: Callable[[int], Array] | None = None,
    state: State | None = None,
    first: int = 0,
    after: Callable[[int, State, tuple[Message, ...]], None] = lambda number, state, messages: None,
) -> State:
    """Run a strategy.

    Args:
      keys: [seeds]; each round derives its own.
      strategy: how.
      federation: who.
      rounds: how many in all.
      active: active(round) -> [seeds, nodes] bool, who takes part; all if None.
      state: to go on with, after `first` rounds; None: from the start.
      first: how many rounds that has had.
      after: is called with each round's number, the state after it, and its messages.

    Returns:
      The state after the last round.
    """
    if state is None:
        state = strategy.init(_folded(keys, 0), federation)
    everyone = np.ones((federation.seeds, federation.nodes), bool)
    for number in range(first, rounds):
        takes_part = everyone if active is None else active(number)
        state, messages = strategy.round(_folded(keys, 1 + number), state, federation, takes_part)
        after(number, state, messages)
    return state


@jax.jit
def _folded(keys: Array, number: int) -> Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _split(keys: Array, count: int) -> Array:
    """Keys for so many purposes, [purposes, seeds]."""
    return split(keys, count).T


def _where(chosen: Array, yes: Any, no: Any) -> Any:
    """Of each node [seeds, nodes] one or the other."""

    def where(a, b):
        return np.where(chosen.reshape(*chosen.shape, *[1] * (a.ndim - 2)), a, b)

    return jax.tree.map(where, yes, no)
