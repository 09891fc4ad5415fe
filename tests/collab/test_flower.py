"""Strategies among nodes on a network, here in one process: Flower's messages go to and fro without its servers."""

import functools
import re

import jax
import numpy as np
import pytest

pytest.importorskip("flwr", reason="the extra 'federation' is not installed")

from flwr.app import ArrayRecord, Context, RecordDict  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402

from beamkd.base import InputError  # noqa: E402
from beamkd.collab import CODECS, STRATEGIES, Ledger, Noise, pack, run_rounds  # noqa: E402
from beamkd.collab.flower import NUMBER, Bytes, Nodes, Place, client_app, over_flower  # noqa: E402
from tests.collab.federations import dataset_of, federation_of, keys_of, leaves  # noqa: E402
from tests.collab.test_datafree import SMALL  # noqa: E402

ROUNDS = 2

CONTEXT = Context(1, 1, {}, RecordDict(), {})


@pytest.fixture(autouse=True)
def run_number(monkeypatch):
    """Messages can only be made within a run of Flower's."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1, raising=False)


class Wire:
    """A grid whose nodes answer at once, unless `spoiled` makes something else of an answer, or nothing."""

    def __init__(self, strategy, federation, folder, spoiled=lambda number, kind, answer: answer, numbers=None):
        self.numbers = range(federation.nodes) if numbers is None else numbers
        self.spoiled, self.answers, self.sent = spoiled, {}, []
        self.apps = {}
        for flower, number in enumerate(self.numbers, start=100):
            place = Place(strategy.exchange, federation, number, folder / f"node{number}")
            self.apps[flower] = client_app(
                lambda context, number=number: number, lambda context, name, place=place: place
            )

    def get_node_ids(self):
        return [*self.apps]

    def push_messages(self, messages):
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(len(self.sent))
            self.sent.append(message)
            flower, kind = message.metadata.dst_node_id, message.metadata.message_type
            answer = self.spoiled(self.numbers[flower - 100], kind, self.apps[flower](message, CONTEXT))
            if answer is not None:
                self.answers[message.metadata.message_id] = answer
            yield message.metadata.message_id

    def pull_messages(self, numbers):
        return [self.answers.pop(number) for number in numbers if number in self.answers]


def over(wire, federation, strategy, wait=0.3, **options):
    """The state after some rounds over a wire, weights by which nodes predict, the ledger, and what is said."""
    said, ledger = [], Ledger()
    nodes = Nodes(wire, federation.nodes, wait, said.append)
    nodes.gather()
    networked = over_flower("it", strategy, nodes)
    state = run_rounds(keys_of(), networked, federation, ROUNDS, **{"after": ledger.add, **options})
    return state, networked.deployed(state, federation), ledger, said


@pytest.fixture(scope="module")
def dataset():
    return dataset_of()


FORMS = {
    "fedavg": ({}, {}, {}),
    "fedmd": ({"windows": 20}, {}, {"sizes": (3, 2, 2)}),
    "central_kd": ({"windows": 20}, {"codec": CODECS["top"]}, {}),
    "mutual": ({"windows": 20}, {"noise": Noise(10.0, 0.1), "codec": CODECS["int8"]}, {}),
    "datafree": (SMALL, {}, {"sizes": (3, 2)}),
}
"""Strategies of each form, with their settings, and those of the federation."""


@pytest.mark.parametrize("name", FORMS)
def test_a_network_gives_what_the_simulator_gives(dataset, tmp_path, name):
    settings, options, nodes = FORMS[name]
    federation = federation_of(dataset, **nodes, **options)
    strategy, ledger = STRATEGIES[name](federation, **settings), Ledger()
    state = run_rounds(keys_of(), strategy, federation, ROUNDS, after=ledger.add)
    wire = Wire(strategy, federation, tmp_path)
    found, networks, counted, said = over(wire, federation, strategy)
    assert not said
    for one, other in zip(networks, strategy.deployed(state, federation), strict=True):
        for a, b in zip(leaves(one.params), leaves(other.params), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_array_equal(found.refused, state.refused)
    for link in ("up", "down", "between"):
        np.testing.assert_array_equal(counted.total(link), ledger.total(link))


def test_bytes_on_the_wire_are_those_of_the_ledger(dataset, tmp_path):
    federation = federation_of(dataset)
    strategy = STRATEGIES["fedavg"](federation)
    _, _, ledger, _ = over(wire := Wire(strategy, federation, tmp_path), federation, strategy)
    told = [message.content["arrays"]["message"].data for message in wire.sent if "arrays" in message.content]
    # A message holds all seeds; the ledger counts each on its own.
    (group,) = federation.groups
    weights = jax.tree.map(lambda leaf: np.asarray(leaf[:, 0]), {"weights": group.model.params})
    assert {len(data) for data in told} == {len(pack(weights))}
    each = len(pack(jax.tree.map(lambda leaf: leaf[0], weights)))
    np.testing.assert_array_equal(ledger.total("down"), ROUNDS * federation.nodes * each)


def spoil(which, change, number, kind, answer):
    """An answer to work, changed if it is that of one node."""
    if number != which or kind == NUMBER:
        return answer
    return change(answer)


def of_other_bytes(data, answer):
    answer.content["arrays"] = ArrayRecord({"message": Bytes("uint8", (len(data),), "safetensors", data)})
    return answer


def as_nan(answer):
    data = answer.content["arrays"]["message"].data
    head = 8 + int.from_bytes(data[:8], "little")  # as safetensors has it
    return of_other_bytes(data[:head] + b"\xff" * (len(data) - head), answer)


BAD = {
    "silent": (lambda answer: None, r"node 1: no answer in 0\.3 s", 0),
    "garbage": (functools.partial(of_other_bytes, b"\0" * 99), "node 1: refused, message: expected arrays, found", 1),
    "unlike": (
        functools.partial(of_other_bytes, pack({"weights": np.zeros(3)})),
        "node 1: refused, message: expected weights/",
        1,
    ),
    "long": (
        functools.partial(of_other_bytes, bytes(10**6)),
        r"node 1: refused, message: expected [\d,]+ bytes at most, found 1,000,000",
        1,
    ),
    "nan": (as_nan, None, 1),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_node_that_fails_is_named_and_the_others_go_on(dataset, tmp_path, kind):
    change, expected, refused = BAD[kind]
    federation = federation_of(dataset, sizes=(3, 3, 3))
    strategy = STRATEGIES["fedavg"](federation)
    wire = Wire(strategy, federation, tmp_path, functools.partial(spoil, 1, change))
    state, _, _, said = over(wire, federation, strategy)
    without = np.broadcast_to(np.arange(3) != 1, state.refused.shape)
    alone = run_rounds(keys_of(), strategy, federation, ROUNDS, active=lambda number: without)
    for a, b in zip(leaves(state.centre.params), leaves(alone.centre.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_array_equal(state.refused, np.where(without, 0, ROUNDS * refused))
    assert len(said) == (ROUNDS if expected else 0)
    assert all(re.match(expected, line) for line in said)


def test_the_centre_goes_on_where_it_was_and_nodes_with_what_they_kept(dataset, tmp_path):
    federation = federation_of(dataset, sizes=(3, 2))
    strategy = STRATEGIES["fedmd"](federation, windows=20)
    whole, networks, _, _ = over(Wire(strategy, federation, tmp_path / "whole"), federation, strategy)
    kept = {}
    wire = Wire(strategy, federation, tmp_path / "parts")
    over(wire, federation, strategy, after=lambda number, state, messages: kept.setdefault(number, state))
    # The second round is done already: a centre that was killed after it asks for it again.
    again = Wire(strategy, federation, tmp_path / "parts")
    state, found, _, said = over(again, federation, strategy, state=kept[0])
    assert not said
    for one, other in zip(found, networks, strict=True):
        for a, b in zip(leaves(one.params), leaves(other.params), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_node_whose_number_is_taken_or_unknown_is_left_out(dataset, tmp_path):
    federation = federation_of(dataset)
    strategy = STRATEGIES["fedavg"](federation)
    said = []
    nodes = Nodes(Wire(strategy, federation, tmp_path, numbers=[0, 0, 7, 1]), 2, 1.0, said.append)
    nodes.gather()
    nodes.meet()
    assert said == [
        "node: expected a number from 0 to 1 that is free, found 0; left out",
        "node: expected a number from 0 to 1 that is free, found 7; left out",
    ]


def test_nodes_that_do_not_come_are_missed(dataset, tmp_path):
    federation = federation_of(dataset, sizes=(3, 3, 3))
    wire = Wire(STRATEGIES["fedavg"](federation), federation, tmp_path, numbers=[1])
    with pytest.raises(InputError, match=r"^nodes: expected 3 of them in 0\.1 s, found none for \[0, 2\]$"):
        Nodes(wire, 3, 0.1).gather()
