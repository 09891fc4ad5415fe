"""How nodes and a centre learn from one another: a strategy, its rounds, and what crosses in them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import Array, InputError, Model
from beamkd.collab.aggregate import finite, suspected
from beamkd.collab.exchange import Exchange, as_up_and_down, stacked, traced
from beamkd.collab.faults import Faults
from beamkd.collab.messages import Message
from beamkd.collab.nodes import Federation, folded, split


class UnlikeNodes(InputError):
    """A strategy that needs nodes that are alike was given others."""


@struct.dataclass
class State:
    """A strategy after some rounds; all that a checkpoint needs.

    Attributes:
      nodes: what the nodes of each group have, [seeds, nodes, ...], or what is known of it.
      centre: what the centre has, [seeds, ...].
      refused: in how many rounds what a node said was no finite number, and was left out, [seeds, nodes] int32.
      suspected: in how many it was far from what most nodes said, the same; see `aggregate.suspected`.
      stale: in how many it was of an earlier round, the same; a message bears its round's number.
      done: how many rounds it has had, int32.
      found: what each group's nodes found in the last one, where some lag; None otherwise.
    """

    nodes: tuple[Any, ...]
    centre: Any
    refused: Array
    suspected: Array
    stale: Array
    done: Array
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
    exchange: Exchange | None = None


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a round's work at nodes comes to.

    Attributes:
      nodes: what the nodes of each group then have, as `State` has it.
      said: what arrives of what they say, by group, [seeds, nodes, ...].
      active: which of them took part, [seeds, nodes] bool.
      sound: which said finite numbers of the right shapes alone, likewise.
      stale: which said what is of an earlier round, likewise.
      found: see `State`.
    """

    nodes: tuple[Any, ...]
    said: list[Any]
    active: Array
    sound: Array
    stale: Array
    found: Any = None


@dataclasses.dataclass(frozen=True)
class Reach:
    """How nodes are reached: here and all at once (`AT_ONCE`), or over a network.

    Attributes:
      begin: begin(exchange, keys [seeds], federation) -> `State.nodes` before the first round.
      work: work(exchange, keys (to work, to fail, to hide; [seeds] each), state, tells, federation, active) -> `Heard`;
        `tells` is what the centre tells, before it is written as a message.
      params: params(state, federation) -> weights that each group's nodes have, [seeds, nodes, ...].
    """

    begin: Callable[[Exchange, Array, Federation], tuple[Any, ...]]
    work: Callable[[Exchange, Array, State, Any, Federation, Array], Heard]
    params: Callable[[State, Federation], Sequence[Any]]


def _begin_at_once(exchange: Exchange, keys: Array, federation: Federation) -> tuple[Any, ...]:
    return tuple(
        federation.at_nodes(exchange.node, number)(federation.keys(keys, number), group.model.params, None)
        for number, group in enumerate(federation.groups)
    )


def _work_at_once(exchange, keys, state, tells, federation, active) -> Heard:
    to_work, to_fail, to_hide = keys
    told = federation.crossed(tells, 1 + exchange.addressed)
    takes_part, nodes, found = federation.by_group(active), [], []
    for number, before in enumerate(state.nodes):
        work = federation.at_nodes(exchange.work, number, exchange.addressed)
        after, says = work(federation.keys(to_work, number), before, told)
        nodes.append(_where(takes_part[number], after, before))
        found.append(federation.hidden(federation.keys(to_hide, number), says))
    before = state.found if state.done else None
    said = [federation.crossed(each, 2) for each in _arriving(federation, to_fail, found, before)]
    fine = [sound(each, there) for each, there in zip(said, takes_part, strict=True)]
    kept = tuple(found) if _some_lag(federation) else None
    stale = active & (federation.faults or Faults()).stale(federation.nodes, int(state.done))
    return Heard(tuple(nodes), said, active, np.concatenate(fine, axis=1), stale, kept)


AT_ONCE = Reach(_begin_at_once, _work_at_once, lambda state, federation: [nodes.params for nodes in state.nodes])
"""Nodes of a group are one program, of which each device has a share."""


def by_exchange(name: str, exchange: Exchange, reach: Reach = AT_ONCE) -> Strategy:
    """The strategy of an exchange; `name` is for what is refused."""
    as_messages = exchange.messages or functools.partial(as_up_and_down, addressed=exchange.addressed)

    def init(keys, federation):
        if exchange.alike and len(federation.groups) > 1:
            raise UnlikeNodes(f"{name}: expected nodes with equal networks, found {len(federation.groups)} kinds")
        if not exchange.apart and len(federation.groups) > 1:
            _check_alike(name, traced(exchange, federation).says)
        at_nodes, at_centre = _split(keys, 2)
        nodes = reach.begin(exchange, at_nodes, federation)
        centre = federation.at_centre(exchange.centre)(at_centre, federation.centre.model.params, None)
        none = np.zeros((federation.seeds, federation.nodes), np.int32)
        found = _nothing(exchange, federation) if _some_lag(federation) else None
        return State(nodes, centre, none, none, none, np.int32(0), found)

    def one_round(keys, state, federation, active):
        to_tell, to_work, to_learn, to_fail, to_hide = _split(keys, 5)
        tells = federation.at_centre(exchange.tell)(to_tell, state.centre, None) if exchange.tell else None
        asked = (to_work, to_fail, to_hide), state, tells, federation, np.asarray(active)
        heard = reach.work(exchange, *asked)
        counts = heard.active & heard.sound
        said = tuple(heard.said) if exchange.apart else together(heard.said)
        far = _far(heard.said, federation.by_group(counts)) if exchange.apart else suspected(said, counts)
        centre = federation.at_centre(exchange.learn)(to_learn, state.centre, (said, counts))
        messages = as_messages(tells, heard.said, federation.by_group(heard.active))
        after = State(
            nodes=heard.nodes,
            centre=centre,
            refused=state.refused + (heard.active & ~heard.sound),
            suspected=state.suspected + far,
            stale=state.stale + heard.stale,
            done=state.done + np.int32(1),
            found=heard.found,
        )
        return after, tuple(federation.sent(message) for message in messages)

    def deployed(state, federation):
        if not exchange.central:
            params = reach.params(state, federation)
            return tuple(_with(group.model, own) for group, own in zip(federation.groups, params, strict=True))
        sizes = (group.size for group in federation.groups)
        each = (
            jax.tree.map(lambda leaf, size=size: np.repeat(leaf[:, None], size, 1), state.centre.params)
            for size in sizes
        )
        return tuple(_with(federation.centre.model, params) for params in each)

    return Strategy(init, one_round, deployed, exchange)


def _some_lag(federation: Federation) -> bool:
    return federation.faults is not None and bool(federation.faults.lag)


def _nothing(exchange: Exchange, federation: Federation) -> tuple[Any, ...]:
    """Zeros in place of what each group's nodes find, for a checkpoint to have the same arrays from the start."""
    says = zip(traced(exchange, federation).says, federation.groups, strict=True)
    shapes = tuple(stacked(each, federation.seeds, group.size) for each, group in says)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


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


def sound(says: Any, active: Array) -> Array:
    """Which of a group's nodes say finite numbers alone, [seeds, nodes] bool."""
    return np.asarray(_finite(says)) if jax.tree.leaves(says) else np.ones_like(active)


_finite = jax.jit(jax.vmap(finite))


def _far(said: Sequence[Any], there: Sequence[Array]) -> Array:
    """Which nodes are suspected, [seeds, nodes], where only those of a group say what can be compared."""
    return np.concatenate([suspected(says, active) for says, active in zip(said, there, strict=True)], axis=1)


def _with(model: Model, params: Any) -> Model:
    """A network with other weights, on the device."""
    return dataclasses.replace(model, params=jax.tree.map(jnp.asarray, params))


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
    after: Callable[[int, State, tuple[Message, ...]], None] = lambda number, state, messages: None,
) -> State:
    """Run a strategy.

    Args:
      keys: [seeds]; each round derives its own.
      strategy: how.
      federation: who.
      rounds: how many in all.
      active: active(round) -> [seeds, nodes] bool, who takes part; all if None.
      state: to go on with; None: from the start.
      after: is called with each round's number, the state after it, and its messages.

    Returns:
      The state after the last round.
    """
    if state is None:
        state = strategy.init(folded(keys, 0), federation)
    everyone = np.ones((federation.seeds, federation.nodes), bool)
    for number in range(int(state.done), rounds):
        takes_part = everyone if active is None else active(number)
        state, messages = strategy.round(folded(keys, 1 + number), state, federation, takes_part)
        after(number, state, messages)
    return state


def _split(keys: Array, count: int) -> Array:
    """Keys for so many purposes, [purposes, seeds]."""
    return split(keys, count).T


def _where(chosen: Array, yes: Any, no: Any) -> Any:
    """Of each node [seeds, nodes] one or the other."""

    def where(a, b):
        return np.where(chosen.reshape(*chosen.shape, *[1] * (a.ndim - 2)), a, b)

    return jax.tree.map(where, yes, no)
