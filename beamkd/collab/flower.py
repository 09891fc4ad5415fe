"""The same strategies among processes on a network, by Flower's SuperLink and SuperNodes (extra 'federation').

The centre is a ServerApp, each node a ClientApp that runs once a message. What crosses are the messages of the exchange
as safetensors files, never pickles. A node keeps what it has in a folder of its own, by round: so it may be stopped and
started, and the centre may begin a round again. Who does not answer in time takes no part in the round, and is named.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flwr.app import Array as Bytes
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from beamkd.base import Array, InputError
from beamkd.collab.exchange import Exchange, stacked, traced
from beamkd.collab.messages import pack, size_of, unpack
from beamkd.collab.nodes import Federation, inner
from beamkd.collab.strategy import Heard, Reach, State, Strategy, by_exchange, sound

NUMBER, WORK, PARAMS = "query.number", "train", "query.params"
"""What a node is asked for: its number, a round's work, the weights that it predicts by."""

PATIENCE = 0.2
"""Seconds between two looks for answers."""

KEYS = ("begin", "work", "hide")
"""What a node draws by."""


@dataclasses.dataclass
class Nodes:
    """The nodes as the centre sees them.

    Attributes:
      grid: Flower's.
      count: how many there are.
      wait: seconds that it waits for answers.
      say: what is told of nodes that fail.
      ids: Flower's number of each node that has said which one it is.
      strangers: Flower's numbers of those that are none of the nodes.
    """

    grid: Grid
    count: int
    wait: float
    say: Callable[[str], None] = print
    ids: dict[int, int] = dataclasses.field(default_factory=dict)
    strangers: set[int] = dataclasses.field(default_factory=set)
    _weights: tuple[Any, dict[int, bytes]] = (None, {})

    def gather(self) -> None:
        """Wait until all nodes are there.

        Raises:
          InputError: some have not come in time.
        """
        until = time.monotonic() + self.wait
        while len(self.ids) < self.count:
            self.meet()
            if time.monotonic() > until:
                missing = sorted({*range(self.count)} - {*self.ids})
                raise InputError(f"nodes: expected {self.count} of them in {self.wait:g} s, found none for {missing}")
            time.sleep(PATIENCE)

    def meet(self) -> None:
        """Ask those that have come for their numbers."""
        new = {*self.grid.get_node_ids()} - {*self.ids.values()} - self.strangers
        for flower, answer in self._ask({flower: (NUMBER, RecordDict()) for flower in sorted(new)}).items():
            about = answer.get("about")
            number = about.get("number") if isinstance(about, ConfigRecord) else None
            if number not in range(self.count) or number in self.ids:
                self.say(f"node: expected a number from 0 to {self.count - 1} that is free, found {number}; left out")
                self.strangers.add(flower)
            else:
                self.ids[number] = flower

    def ask(self, kind: str, about: dict[int, dict], data: dict[int, bytes]) -> dict[int, bytes]:
        """What nodes answer, as bytes, of those who do; nodes are asked about something, and told something."""
        if len(self.ids) < self.count:
            self.meet()
        asked = {
            self.ids[node]: (kind, RecordDict({"about": ConfigRecord(about[node]), **_arrays(data.get(node))}))
            for node in about
            if node in self.ids
        }
        numbers = {flower: node for node, flower in self.ids.items()}
        answers = self._ask(asked, lambda flower: f"node {numbers[flower]}")
        return {numbers[flower]: _bytes(answer) for flower, answer in answers.items()}

    def weights(self, name: str, rounds: int) -> dict[int, bytes]:
        """The weights that nodes have in a strategy after so many rounds; the last answers are kept."""
        if self._weights[0] != (name, rounds):
            about = {node: {"name": name, "rounds": rounds} for node in range(self.count)}
            self._weights = (name, rounds), self.ask(PARAMS, about, {})
        return self._weights[1]

    def _ask(
        self, asked: dict[int, tuple[str, RecordDict]], name: Callable[[int], str] = "node {}".format
    ) -> dict[int, RecordDict]:
        """Send each a message, and wait for the answers."""
        if not asked:
            return {}
        messages = [Message(content, flower, kind, ttl=self.wait) for flower, (kind, content) in asked.items()]
        sent = zip(self.grid.push_messages(messages), asked, strict=True)
        waiting, found, until = dict(sent), {}, time.monotonic() + self.wait
        while waiting and time.monotonic() < until:
            for answer in self.grid.pull_messages([*waiting]):
                flower = waiting.pop(answer.metadata.reply_to_message_id, None)
                if flower is None:
                    continue
                if answer.has_error():
                    self.say(f"{name(flower)}: no answer, {answer.error.reason}")
                else:
                    found[flower] = answer.content
            if waiting:
                time.sleep(PATIENCE)
        for flower in waiting.values():
            self.say(f"{name(flower)}: no answer in {self.wait:g} s")
        return found


def over_flower(name: str, strategy: Strategy, nodes: Nodes) -> Strategy:
    """The same strategy among nodes on a network; `name` is that by which nodes know it.

    Faults of the federation are not simulated there.
    """
    reach = Reach(_begin, functools.partial(_work, name, nodes), functools.partial(_params, name, nodes))
    return by_exchange(name, strategy.exchange, reach)


def _begin(exchange: Exchange, keys: Array, federation: Federation) -> tuple[Any, ...]:
    """What the centre knows of nodes: by which keys they begin, and how many rounds there have been."""
    each = [federation.keys(keys, number) for number in range(len(federation.groups))]
    return tuple({"key": jax.device_get(jax.random.key_data(k)), "rounds": np.zeros(k.shape, np.int32)} for k in each)


def _work(name, nodes: Nodes, exchange, keys, state: State, tells, federation: Federation, active) -> Heard:
    about = _asked(name, keys, state, federation, active)
    sends = federation.written(tells, 1 + exchange.addressed)
    told = {} if tells is None else {node: _at(sends, node) if exchange.addressed else sends for node in about}
    answers = nodes.ask(WORK, about, {node: pack(arrays) for node, arrays in told.items()})
    came = np.isin(np.arange(federation.nodes), [*answers]) & active
    said, fits = _heard(nodes, answers, traced(exchange, federation).says, federation)
    finite = [sound(each, there) for each, there in zip(said, federation.by_group(came), strict=True)]
    after = tuple({"key": known["key"], "rounds": known["rounds"] + 1} for known in state.nodes)
    return Heard(after, said, came, fits & np.concatenate(finite, axis=1), np.zeros_like(came))


def _asked(name: str, keys: Array, state: State, federation: Federation, active: Array) -> dict[int, dict[str, Any]]:
    """What is asked of each active node: a round of a strategy, after so many, by its keys."""
    to_work, _, to_hide = keys
    about = {}
    for number, (known, there) in enumerate(zip(state.nodes, federation.by_group(active), strict=True)):
        drawn = [known["key"], *(jax.random.key_data(federation.keys(each, number)) for each in (to_work, to_hide))]
        for place in np.flatnonzero(there.any(0)).tolist():
            own = {which: np.asarray(key)[:, place].tobytes() for which, key in zip(KEYS, drawn, strict=True)}
            node = federation.firsts[number] + place
            about[node] = {"name": name, "rounds": int(known["rounds"].max()), **own}
    return about


def _heard(
    nodes: Nodes, answers: dict[int, bytes], says: list[Any], federation: Federation
) -> tuple[list[Any], np.ndarray]:
    """What nodes say, by group, zeros where nothing that fits has come; and whose fits, [seeds, nodes]."""
    said, fits, seeds = [], np.zeros((federation.seeds, federation.nodes), bool), federation.seeds
    for first, group, one in zip(federation.firsts, federation.groups, says, strict=True):
        arrived = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), stacked(one, seeds, group.size))
        like = stacked(jax.eval_shape(federation.codec.sent, one), seeds)
        for place, own in _fitting(nodes, first, group.size, answers, like).items():
            fits[:, first + place] = True
            _put(arrived, place, federation.read(own, one))
        said.append(arrived)
    return said, fits


def _fitting(nodes: Nodes, first: int, size: int, answers: dict[int, bytes], like: Any) -> dict[int, Any]:
    """Answers of a group's nodes, by place, that have the shapes of `like`; others are told."""
    found = {}
    for place in range(size):
        if first + place in answers:
            try:
                found[place] = _unpacked(answers[first + place], like)
            except InputError as error:
                nodes.say(f"node {first + place}: refused, {error}")
    return found


def _put(all_: Any, place: int, own: Any) -> None:
    """Write a node's arrays [seeds, ...] to its place in those of its group, [seeds, nodes, ...]."""
    for leaf, one in zip(jax.tree.leaves(all_), jax.tree.leaves(own), strict=True):
        leaf[:, place] = one


def _params(name: str, nodes: Nodes, state: State, federation: Federation) -> list[Any]:
    """Weights of each group's nodes, which they hand over to be judged; the first ones of those that do not answer."""
    answers, found = nodes.weights(name, max(int(known["rounds"].max()) for known in state.nodes)), []
    for first, group in zip(federation.firsts, federation.groups, strict=True):
        params = jax.tree.map(np.array, group.model.params)
        fitting = _fitting(nodes, first, group.size, answers, stacked(inner(params, 2), federation.seeds))
        for place in range(group.size):
            if place in fitting:
                _put(params, place, fitting[place])
            else:
                nodes.say(f"node {first + place}: its first weights are judged")
        found.append(params)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """Where a node stands.

    Attributes:
      exchange: the strategy's.
      federation: all nodes; of the others' windows none are looked at.
      node: its number.
      folder: where it keeps what it has in this strategy.
    """

    exchange: Exchange
    federation: Federation
    node: int
    folder: Path

    @functools.cached_property
    def own(self) -> Federation:
        """The node alone."""
        return self.federation.alone(self.node)

    def work(self, rounds: int, keys: dict[str, bytes], told: bytes) -> bytes:
        """A round's work, after so many: what the node then says."""
        own, exchange = self.own, self.exchange
        begin, to_work, to_hide = (_keys(keys[which], own.seeds) for which in KEYS)
        mine = self._kept(rounds)
        if mine is None:
            mine = own.at_nodes(exchange.node, 0)(begin, own.groups[0].model.params, None)
        hears = traced(exchange, own).told
        heard = _unpacked(told, stacked(jax.eval_shape(own.codec.sent, hears), own.seeds)) if told else None
        heard = own.read(heard, hears) if told else None
        heard = jax.tree.map(lambda leaf: leaf[:, None], heard) if exchange.addressed else heard
        after, says = own.at_nodes(exchange.work, 0, exchange.addressed)(to_work, mine, heard)
        self._keep(rounds + 1, after)
        return pack(_at(own.written(own.hidden(to_hide, says), 2), 0))

    def params(self, rounds: int) -> bytes:
        """Weights of the node after so many rounds, or as it began."""
        mine = self._kept(rounds)
        params = self.own.groups[0].model.params if mine is None else mine.params
        return pack(_at(params, 0))

    def _kept(self, rounds: int) -> Any | None:
        """What the node had after so many rounds, or fewer if it missed some; None if it has done none."""
        done = [number for number in self._rounds() if number <= rounds]
        if not rounds or not done:
            return None
        like = stacked(traced(self.exchange, self.own).node[0][1], self.own.seeds, 1)
        return unpack(self._file(max(done)).read_bytes(), like)

    def _keep(self, rounds: int, mine: Any) -> None:
        """Write what the node has after so many rounds; the state before is kept for a round that begins again."""
        file = self._file(rounds)
        self.folder.mkdir(parents=True, exist_ok=True)
        writing = file.with_suffix(".writing")
        writing.write_bytes(pack(mine))
        os.replace(writing, file)
        for number in self._rounds():
            if number not in (rounds - 1, rounds):
                self._file(number).unlink()

    def _file(self, rounds: int) -> Path:
        return self.folder / f"{rounds}.safetensors"

    def _rounds(self) -> list[int]:
        return [int(file.stem) for file in self.folder.glob("*.safetensors")]


def client_app(number: Callable[[Context], int], place: Callable[[Context, str], Place]) -> ClientApp:
    """The app that a node runs.

    Args:
      number: number(context) -> which node it is.
      place: place(context, name) -> where it stands in the strategy of that name, which comes over the network.
    """
    app = ClientApp()

    @app.query("number")
    def tell_number(message: Message, context: Context) -> Message:
        return Message(RecordDict({"about": ConfigRecord({"number": number(context)})}), reply_to=message)

    @app.train()
    def work(message: Message, context: Context) -> Message:
        about = message.content["about"]
        keys = {which: about[which] for which in KEYS}
        says = place(context, about["name"]).work(about["rounds"], keys, _bytes(message.content))
        return Message(RecordDict(_arrays(says)), reply_to=message)

    @app.query("params")
    def tell_params(message: Message, context: Context) -> Message:
        about = message.content["about"]
        params = place(context, about["name"]).params(about["rounds"])
        return Message(RecordDict(_arrays(params)), reply_to=message)

    return app


def _arrays(data: bytes | None) -> dict[str, ArrayRecord]:
    """A record of bytes; Flower cuts long ones in pieces on the way."""
    return {"arrays": ArrayRecord({"message": Bytes("uint8", (len(data),), "safetensors", data)})} if data else {}


def _bytes(content: RecordDict) -> bytes:
    """Those that a message brings; none if it has none, or something else."""
    record = content.get("arrays")
    return record["message"].data if isinstance(record, ArrayRecord) and "message" in record else b""


def _unpacked(data: bytes, like: Any) -> Any:
    """Arrays of these shapes; what is longer than they are is not looked into."""
    most = size_of(like)
    if len(data) > most:
        raise InputError(f"message: expected {most:,} bytes at most, found {len(data):,}")
    return unpack(data, like)


def _keys(data: bytes, seeds: int) -> Array:
    """A node's keys, [seeds, 1]."""
    return jax.random.wrap_key_data(np.frombuffer(data, np.uint32).reshape(seeds, 1, -1))


def _at(tree: Any, node: int) -> Any:
    """Of [seeds, nodes, ...] what is a node's, [seeds, ...]."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, node], tree)
