"""Rounds: answers that are known, what crosses, who takes part."""

import functools
import gc
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError, Rows
from beamkd.collab import STRATEGIES, Ledger, pack, run_rounds
from beamkd.collab.learning import beginner
from beamkd.collab.strategies import (
    central_kd,
    cfd,
    complete,
    dsfl,
    fedavg,
    fedmd,
    hierarchical,
    local,
    mutual,
    random_graph,
    ring,
    self_distillation,
)
from beamkd.collab.strategies.answers import Digest, answers, digested, draw, epochs_of
from beamkd.collab.strategies.fedmd import absolute_error
from beamkd.collab.strategies.fedproto import Prototypes, towards
from beamkd.collab.strategies.mutual import checked
from beamkd.training import FitConfig, map_members, supervised_task
from tests.collab.federations import SEEDS, dataset_of, federation_of, keys_of, leaves
from tests.xla import OLD_EMITTERS

LINKS = {
    "local": set(),
    "pooled": {"up"},
    "self": set(),
    "mutual": {"between"},
    "hierarchical": {"up", "edge up", "edge down", "down"},
}
"""What messages cross, where that is not 'up' and 'down'."""

ROUNDS = 2
PLAIN = FitConfig(epochs=1, batch_size=1000, optimizer="sgd", momentum=0.0, l2=0.0, clip=0.0, schedule="constant")
"""Steps along the gradient over all of a node's windows."""


@pytest.fixture(scope="module")
def dataset():
    return dataset_of()


def same(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_averaging_a_single_node_is_to_train_alone_bit_for_bit(dataset):
    # By the emitters that users have: the others round unlike programs otherwise.
    usual = {"xla_cpu_use_fusion_emitters": True} if OLD_EMITTERS else None
    over_members = functools.partial(map_members, compiler_options=usual)
    federation = federation_of(dataset, sizes=(3,), over_members=over_members)
    alone, averaged = (
        strategy.deployed(run_rounds(keys_of(), strategy, federation, ROUNDS), federation)
        for strategy in (local(), fedavg())
    )
    same(alone[0].params, averaged[0].params)
    assert not np.array_equal(leaves(alone[0].params)[0], leaves(federation.groups[0].model.params)[0])


def test_averaging_after_one_step_is_a_step_on_all_windows(dataset):
    # Each node has as many windows, so the mean of gradients is that of the whole.
    train = dataset.split.train
    each = int(np.asarray(train.mask).sum(1).min()) // 2
    halves = Rows(train.index[:, : 2 * each].reshape(SEEDS, 2, each), train.mask[:, : 2 * each].reshape(SEEDS, 2, each))
    federation = federation_of(dataset, halves, fit=PLAIN)
    state = run_rounds(keys_of(), fedavg(), federation, 1)
    group = federation.groups[0]
    task = supervised_task(group.kind.forward, group.kind.take)
    slope = jax.jit(jax.grad(lambda params, data, rows: task.loss(params, task.take(data, rows), None)[0]))
    for seed in range(SEEDS):
        rows = Rows(train.index[seed, : 2 * each], train.mask[seed, : 2 * each])
        params = jax.tree.map(lambda leaf, seed=seed: leaf[seed, 0], group.model.params)
        gradient = slope(params, group.own.data, rows)
        expected = jax.tree.map(lambda weight, slope: weight - PLAIN.learning_rate * slope, params, gradient)
        for found, wanted in zip(leaves(state.centre.params), leaves(expected), strict=True):
            np.testing.assert_allclose(found[seed], wanted, atol=1e-6)


def test_a_proximal_term_keeps_nodes_near_what_they_began_with(dataset):
    federation = federation_of(dataset)

    def moved(**options):
        state = run_rounds(keys_of(), fedavg(epochs=3, **options), federation, 1)
        begun = federation.groups[0].model.params
        return sum(np.square(a - b).sum() for a, b in zip(leaves(state.nodes[0].params), leaves(begun), strict=True))

    assert moved(proximal=100.0) < 0.5 * moved()


def test_weights_of_unlike_networks_are_not_averaged(dataset):
    with pytest.raises(InputError, match="^fedavg: expected nodes with equal networks, found 2 kinds$"):
        run_rounds(keys_of(), fedavg(), federation_of(dataset, sizes=(3, 2)), 1)


def output_of(kind, params, data, rows):
    """What a network gives for some windows, and these."""
    return _output(kind.forward, kind.take, params, data, rows)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _output(forward, take, params, data, rows):
    batch = take(data, rows)
    return forward(params, batch, None), batch


def answers_of(federation, state, seed):
    """Logits of all nodes on the windows that they were asked about, [nodes, B, J + 1, M]."""
    rows = jax.tree.map(lambda leaf: leaf[seed], state.centre.asked)
    found = []
    for group, nodes in zip(federation.groups, state.nodes, strict=True):
        for node in range(group.size):
            params = jax.tree.map(lambda leaf, node=node: leaf[seed, node], nodes.params)
            found.append(output_of(group.kind, params, group.own.data, rows)[0].logits)
    return np.array(found, np.float64)


@pytest.mark.parametrize("name", ["fedmd", "dsfl"])
def test_nodes_learn_from_the_mean_of_all_answers(dataset, name):
    federation = federation_of(dataset, sizes=(3, 3, 2))
    state = run_rounds(keys_of(), {"fedmd": fedmd, "dsfl": dsfl}[name](windows=20), federation, 1)
    logits = np.stack([answers_of(federation, state, seed) for seed in range(SEEDS)])
    if name == "fedmd":
        expected = logits.mean(1)
    else:
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        sharp = np.exp(shares.mean(1) / 0.1)
        expected = sharp / sharp.sum(-1, keepdims=True)
    np.testing.assert_allclose(state.centre.targets, expected, rtol=1e-4, atol=1e-5)
    assert np.asarray(state.centre.known).all()


@pytest.mark.parametrize(("windows", "epochs"), [(16, 80), (64, 80), (65, 40), (256, 20), (5000, 1), (50_000, 1)])
def test_fewer_windows_are_learned_more_often(windows, epochs):
    assert epochs_of(80, windows) == epochs


def test_a_node_that_digests_comes_nearer_to_the_targets(dataset):
    group = federation_of(dataset, sizes=(3,)).groups[0]
    own, params = (
        jax.tree.map(lambda leaf: leaf[0, 0], tree) for tree in (group.own.replace(data=None), group.model.params)
    )
    own = own.replace(data=group.own.data)
    rows, digest = draw(jax.random.key(0), own.shared, 30), Digest(30, absolute_error, epochs=60)
    said = jax.jit(functools.partial(answers, group.kind))
    targets = 1 + said(params, own, rows)
    learner = beginner(group.kind.fit, params)
    after = jax.jit(functools.partial(digested, group.kind, digest))(learner, jax.random.key(1), own, rows, targets)
    mask = np.asarray(rows.mask)

    def error(params):
        return np.abs(said(params, own, rows) - targets)[mask].mean()

    assert error(after.params) < 0.9 * error(params) and after.epoch == 60


def test_windows_are_drawn_once_and_padding_last():
    shared = Rows(jnp.arange(10, 15), jnp.array([True, True, False, True, True]))
    for count, there in ((3, 3), (8, 4)):
        rows = draw(jax.random.key(0), shared, count)
        assert rows.index.shape == rows.mask.shape == (count,) and rows.mask.sum() == there
        chosen = np.asarray(rows.index)[np.asarray(rows.mask)]
        assert len(set(chosen)) == there and set(chosen) <= {10, 11, 13, 14}


@pytest.fixture(scope="module")
def pair(dataset):
    """Two nodes with equal networks, which every strategy takes."""
    return federation_of(dataset)


@functools.cache  # what it has compiled for `pair` serves several tests
def made(name, federation):
    return STRATEGIES[name](federation)


ONE_BY_ONE = [name for name in STRATEGIES if name not in ("dense", "co_boosting", "datafree")]
"""The strategies that are tested here."""


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_bytes_are_those_of_serialized_messages(pair, name):
    ledger, seen = Ledger(), []

    def after(number, state, messages):
        ledger.add(number, state, messages)
        seen.append(messages)

    run_rounds(keys_of(), made(name, pair), pair, ROUNDS, after=after)
    links = {message.link for messages in seen for message in messages}
    assert links == LINKS.get(name, {"up", "down"})
    for link in links:
        expected, longest = np.zeros(SEEDS, int), np.zeros(SEEDS, int)
        for message in (message for messages in seen for message in messages if message.link == link):
            for seed in range(SEEDS):
                for sender, receivers in enumerate(np.asarray(message.receivers)[seed]):
                    own = jax.tree.map(lambda leaf, at=(seed, sender): np.asarray(leaf)[at], message.arrays)
                    expected[seed] += receivers * len(pack(own))
                    longest[seed] = max(longest[seed], (receivers > 0) * len(pack(own)))
        np.testing.assert_array_equal(ledger.total(link), expected)
        np.testing.assert_array_equal(np.max([found.get(link, 0 * longest) for found in ledger.longest], 0), longest)
        assert expected.min() > 0


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_a_node_that_takes_no_part_keeps_what_it_has_and_says_nothing(pair, name):
    active = jnp.array([[True, False], [False, False]])
    strategy, seen = made(name, pair), []
    before = strategy.init(keys_of(), pair)
    options = {"active": lambda number: active, "after": lambda number, state, messages: seen.extend(messages)}
    after = run_rounds(keys_of(), strategy, pair, 1, state=before, **options)
    for old, new in zip(leaves(before.nodes), leaves(after.nodes), strict=True):
        np.testing.assert_array_equal(old[0, 1], new[0, 1])
        np.testing.assert_array_equal(old[1], new[1])
    assert any(
        (old[0, 0] != new[0, 0]).any() for old, new in zip(leaves(before.nodes), leaves(after.nodes), strict=True)
    )
    assert all(np.isfinite(leaf).all() for leaf in leaves(after.centre))
    first_of_first = [[1, 0], [0, 0]]
    expected = {"up": first_of_first, "edge up": first_of_first, "between": [[0, 0], [0, 0]]}
    expected |= {"down": first_of_first} if strategy.exchange.addressed else {}
    for link in {message.link for message in seen}:
        receivers = sum(np.asarray(message.receivers, int) for message in seen if message.link == link)
        np.testing.assert_array_equal(receivers, expected.get(link, [[1], [0]]))


def test_two_neighbours_learn_from_each_other(dataset):
    federation = federation_of(dataset, sizes=(3, 2))
    state = run_rounds(keys_of(), mutual(complete(2), windows=20), federation, 1)
    for seed in range(SEEDS):
        logits = answers_of(federation, state, seed)
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(state.centre.targets[seed], shares[::-1], rtol=1e-4, atol=1e-6)


def test_servers_at_the_edge_count_alike(dataset):
    federation = federation_of(dataset, sizes=(3, 3, 3))
    state = run_rounds(keys_of(), hierarchical((0, 0, 1), windows=20), federation, 1)
    for seed in range(SEEDS):
        logits = answers_of(federation, state, seed)
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected = 0.25 * shares[0] + 0.25 * shares[1] + 0.5 * shares[2]
        np.testing.assert_allclose(state.centre.targets[seed], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (np.ones((2, 3)), "expected nodes x nodes, found 2 x 3"),
        (np.array([[0, 1], [0, 0]]), "expected a symmetric one, found 0 and 1 unequal"),
        (np.eye(3), "expected a connected graph, found no way from node 0 to 1"),
    ],
)
def test_graphs_by_which_not_all_are_reached_are_refused(graph, told):
    with pytest.raises(InputError, match=f"^adjacency matrix: {told}$"):
        mutual(graph)


@pytest.mark.parametrize("graph", [ring, complete, random_graph])
def test_graphs_join_all_nodes(graph):
    for nodes in (2, 3, 7):
        found = graph(nodes)
        assert found.shape == (nodes, nodes) and not found.diagonal().any()
        np.testing.assert_array_equal(checked(found), found)
    np.testing.assert_array_equal(ring(4).sum(1), 2)


def test_servers_without_nodes_are_refused():
    with pytest.raises(InputError, match="^edges: expected nodes for each of 3 servers, found none for 1$"):
        hierarchical((0, 2, 2))


def test_the_centre_answers_on_the_windows_that_each_node_asks_about(dataset):
    federation = federation_of(dataset, sizes=(3, 2))
    state = run_rounds(keys_of(), central_kd(2, windows=20), federation, 1)
    kind, own = federation.centre.kind, federation.centre.own
    for number, nodes in enumerate(state.nodes):
        for seed in range(SEEDS):
            params, rows = jax.tree.map(lambda leaf, seed=seed: leaf[seed], (state.centre.params, nodes.asked))
            rows = jax.tree.map(lambda leaf: leaf[0], rows)
            mine = np.asarray(federation.groups[number].own.train.index)[seed, 0]
            assert set(np.asarray(rows.index)[np.asarray(rows.mask)]) <= set(mine)
            expected = output_of(kind, params, own.data, rows)[0].logits
            np.testing.assert_allclose(state.centre.logits[seed, number], expected, rtol=1e-5, atol=1e-6)


def test_a_node_that_teaches_itself_stays_nearer_to_what_it_said(dataset):
    federation = federation_of(dataset, sizes=(3,), fit=PLAIN)
    begun = federation.groups[0].model.params

    def moved(strategy):
        state = run_rounds(keys_of(), strategy, federation, 1)
        return [
            np.asarray(a) - np.asarray(b) for a, b in zip(leaves(state.nodes[0].params), leaves(begun), strict=True)
        ]

    # At first it says what it said: only the labels' gradient is left, times 1 − α.
    for whole, part in zip(moved(local()), moved(self_distillation(alpha=0.75)), strict=True):
        np.testing.assert_allclose(part, 0.25 * whole, atol=1e-6)


def test_prototypes_are_the_mean_features_of_a_beam_over_all_nodes_windows(dataset):
    federation = federation_of(dataset)
    state = run_rounds(keys_of(), STRATEGIES["fedproto"](federation), federation, 1)
    group, found = federation.groups[0], state.centre
    for seed in range(SEEDS):
        features, beams = [], []
        for node in range(2):
            params = jax.tree.map(lambda leaf, at=(seed, node): leaf[at], state.nodes[0].params)
            rows = jax.tree.map(lambda leaf, at=(seed, node): leaf[at], group.own.train)
            output, batch = output_of(group.kind, params, group.own.data, rows)
            mask = np.asarray(batch.mask)
            features.append(np.asarray(output.features)[mask])
            beams.append(np.asarray(batch.labels[:, 0])[mask])
        features, beams = np.concatenate(features), np.concatenate(beams)
        for beam in range(dataset.beams):
            assert found.windows[seed, beam] == (beams == beam).sum()
            expected = features[beams == beam].mean(0) if (beams == beam).any() else 0
            np.testing.assert_allclose(found.features[seed, beam], expected, rtol=1e-4, atol=1e-5)


def test_features_are_drawn_to_prototypes_that_are_known(dataset):
    group = federation_of(dataset, sizes=(3,)).groups[0]
    params = jax.tree.map(lambda leaf: leaf[0, 0], group.model.params)
    output, batch = output_of(group.kind, params, group.own.data, Rows(jnp.arange(30), jnp.arange(30) < 25))
    known = Prototypes(jnp.asarray(np.random.default_rng(0).normal(size=(64, 3)), jnp.float32), jnp.arange(64.0) % 3)
    task = supervised_task(group.kind.forward, group.kind.take)
    pulled = towards(task, group.kind, known, 2.0)
    (total, parts), (alone, _) = jax.jit(lambda *each: (pulled.loss(*each, None), task.loss(*each, None)))(
        params, batch
    )
    beams, features = np.asarray(batch.labels[:, 0]), np.asarray(output.features)
    counted = [row for row in range(25) if known.windows[beams[row]] > 0]
    assert 0 < len(counted) < 25
    expected = np.mean([np.square(features[row] - np.asarray(known.features)[beams[row]]).mean() for row in counted])
    np.testing.assert_allclose(parts["prototypes"], expected, rtol=1e-5)
    np.testing.assert_allclose(total, alone + 2 * expected, rtol=1e-5)


def test_compressed_answers_are_a_byte_and_the_centre_learns_their_shares(dataset):
    federation, seen = federation_of(dataset, sizes=(3, 3, 2)), []
    strategy = cfd(centre_digests=30)
    state = run_rounds(keys_of(), strategy, federation, 1, after=lambda number, state, sent: seen.extend(sent))
    count = dataset.split.val.mask.shape[1]
    ups = [message.arrays["labels"] for message in seen if message.link == "up"]
    assert [up.shape for up in ups] == [(SEEDS, nodes, count, 4) for nodes in (2, 1)]
    assert all(up.dtype == np.uint8 for up in ups)
    kind, own = federation.centre.kind, federation.centre.own

    def error(params, seed):
        """Of the centre against the nodes' shares of votes."""
        shares = np.eye(64)[np.concatenate(ups, axis=1)[seed]].mean(0)
        rows = jax.tree.map(lambda leaf: leaf[seed, 0], own.shared)
        logits = output_of(kind, params, own.data, rows)[0].logits
        return -(shares * np.asarray(jax.nn.log_softmax(logits))).sum(-1)[np.asarray(rows.mask)].mean()

    for seed in range(SEEDS):
        before, after = (
            jax.tree.map(lambda leaf, seed=seed: leaf[seed], params)
            for params in (federation.centre.model.params, state.centre.params)
        )
        assert error(after, seed) < error(before, seed)


def test_the_readmes_strategy_counts_the_beams_of_all_nodes(dataset, pair):
    code = (Path(__file__).parents[2] / "README.md").read_text().split("A strategy is five pure functions")[1]
    names = {"federation": pair, "keys": keys_of()}
    exec(code.split("```python\n")[1].split("```")[0], names)
    beams = np.asarray(dataset.windows.frames.beam)[np.asarray(dataset.windows.predicted)[:, 0]]
    for seed in range(SEEDS):
        rows = jax.tree.map(lambda leaf, seed=seed: np.asarray(leaf[seed]), pair.groups[0].own.train)
        count = 1 + np.bincount(beams[rows.index[rows.mask]], minlength=64)
        np.testing.assert_allclose(names["state"].centre["share"][seed], count / count.sum(), rtol=1e-5)
    assert (names["ledger"].total("up") > ROUNDS * 2 * 64 * 4).all()


def test_programs_go_with_their_federation(dataset):
    federation, strategy = federation_of(dataset), fedavg()
    run_rounds(keys_of(), strategy, federation, 1)
    exchange = strategy.exchange
    programs = [federation.at_nodes(exchange.work, 0, exchange.addressed), federation.at_centre(exchange.learn)]
    assert programs[0] is federation.at_nodes(exchange.work, 0, exchange.addressed)
    assert programs[1] is federation.at_centre(exchange.learn)
    gone = [weakref.ref(each) for each in (federation, *programs)]
    del federation, programs
    gc.collect()
    assert [each() for each in gone] == [None] * len(gone)
