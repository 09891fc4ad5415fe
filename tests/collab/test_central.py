"""Strategies whose centre has a larger network: FedGKT's head, and principal components of a teacher's features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Rows
from beamkd.collab import STRATEGIES, UnlikeNodes, run_rounds, size_of
from beamkd.collab.strategies import fedgkt
from beamkd.collab.strategies.fedgkt import Head, Known, head_task
from beamkd.collab.strategies.progressive import SHARES, foretelling_task, principal, progressive
from beamkd.training import FitConfig
from tests.collab.federations import SEEDS, dataset_of, federation_of, keys_of


@pytest.fixture(scope="module")
def dataset():
    return dataset_of()


def rows_of(count):
    return Rows(jnp.arange(count), jnp.ones(count, bool))


def test_the_head_learns_labels_and_nodes_logits():
    rng = np.random.default_rng(0)
    module = Head(beams=8, future=3, hidden=5)
    said = Known(
        codes=jnp.asarray(rng.normal(size=(6, 4, 3)), jnp.float32),
        logits=jnp.asarray(rng.normal(size=(6, 4, 8)), jnp.float32),
        labels=jnp.asarray(rng.integers(0, 8, (6, 4))).at[2, 3].set(-100),
        mask=jnp.arange(6) < 5,
    )
    task = head_task(module, 0.3, 2.0, FitConfig())
    params = jax.jit(module.init)(jax.random.key(0), said.codes)
    total, parts = jax.jit(lambda params, said: task.loss(params, task.take(said, rows_of(6)), None))(params, said)
    logits = np.asarray(jax.jit(module.apply)(params, said.codes), np.float64)

    def log_shares(values):
        return values - np.log(np.exp(values).sum(-1, keepdims=True))

    mine, theirs = log_shares(logits / 2), log_shares(np.asarray(said.logits, np.float64) / 2)
    near = 4 * (np.exp(theirs) * (theirs - mine)).sum(-1)[:5].mean()
    labels = np.asarray(said.labels)[:5]
    right = -np.take_along_axis(log_shares(logits)[:5], np.maximum(labels, 0)[..., None], -1)[..., 0][
        labels >= 0
    ].mean()
    np.testing.assert_allclose([parts["answers"], parts["labels"]], [near, right], rtol=1e-5)
    np.testing.assert_allclose(total, 0.3 * near + 0.7 * right, rtol=1e-5)


def test_the_heads_answers_are_of_each_nodes_own_windows(dataset):
    federation, seen = federation_of(dataset), []
    strategy = fedgkt(2, federation.output(0))
    state = run_rounds(keys_of(), strategy, federation, 2, after=lambda number, state, sent: seen.extend(sent))
    answer = jax.jit(Head(dataset.beams, dataset.future).apply)
    said = [message.arrays for message in seen if message.link == "up"][-1]
    for seed in range(SEEDS):
        params = jax.tree.map(lambda leaf, seed=seed: leaf[seed], state.centre.params)
        for node in range(2):
            expected = answer(params, np.asarray(said.codes)[seed, node])
            np.testing.assert_allclose(state.centre.logits[seed, node], expected, rtol=1e-4, atol=1e-5)
    # Each hears of its own windows alone.
    down = [message for message in seen if message.link == "down"][-1]
    assert down.arrays["logits"].shape[:2] == (SEEDS, 2) and (np.asarray(down.receivers) == 1).all()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fedgkt", r"networks whose messages are of one shape, found \(\d+, 8, 3\) and \(\d+, 8, 2\)"),
        ("fedproto", "networks with as many features, found 3 and 2"),
    ],
)
def test_codes_and_features_of_unlike_sizes_are_refused(dataset, name, told):
    federation = federation_of(dataset, sizes=(3, 2))
    with pytest.raises(UnlikeNodes, match=f"^{name}: expected {told}$"):
        run_rounds(keys_of(), STRATEGIES[name](federation), federation, 1)


def test_components_are_those_of_a_singular_value_decomposition():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 6)) * [5, 3, 2, 1, 0.5, 0.1] @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 4
    mask = np.arange(200) < 150
    middle, components, counts = jax.jit(principal)(features.astype(np.float32), mask)
    chosen = features[mask] - features[mask].mean(0)
    _, lengths, right = np.linalg.svd(chosen, full_matrices=False)
    variances = lengths**2 / 149
    np.testing.assert_allclose(middle, features[mask].mean(0), rtol=1e-4)
    found = np.asarray(components) * np.sqrt(variances.mean())
    np.testing.assert_allclose(np.abs((found * right.T).sum(0)), 1, atol=1e-3)
    shares = np.cumsum(variances) / variances.sum()
    np.testing.assert_array_equal(counts, [1 + (shares < share).sum() for share in SHARES])


def test_more_components_cross_once_accuracy_is_stable(dataset):
    federation, seen = (
        federation_of(dataset, sizes=(5, 5), fit=FitConfig(learning_rate=1e-9, final_learning_rate=0)),
        [],
    )
    strategy = progressive(2, 5, windows=10)
    state = run_rounds(keys_of(), strategy, federation, 7, after=lambda number, state, sent: seen.append(sent))
    counts = np.asarray(state.centre.counts)
    assert (np.asarray(state.centre.level) == 1).all()  # after five rounds in which nobody learned anything
    for number, level in ((0, 0), (5, 1)):
        down = [message for message in seen[number] if message.link == "down"]
        for seed in range(SEEDS):
            (own,) = [message for message in down if np.asarray(message.receivers)[seed].any()]
            assert own.arrays["features"].shape == (SEEDS, 2, 10, counts[seed, level])
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[0, 0], down[0].arrays)
    assert size_of(one) > 40 * counts[0, 1]


def test_components_that_are_not_sent_do_not_count(dataset):
    federation = federation_of(dataset, sizes=(3,))
    kind, own = federation.groups[0].kind, federation.groups[0].own
    rng = np.random.default_rng(0)
    rows = jax.tree.map(lambda leaf: leaf[0, 0, :8], own.train)
    components = rng.normal(size=(8, 4)).astype(np.float32)
    params = {
        "network": jax.tree.map(lambda leaf: leaf[0, 0], federation.groups[0].model.params),
        "map": rng.normal(size=(3, 4)).astype(np.float32),
    }
    task = foretelling_task(kind, 2.0)

    @jax.jit
    def loss(params, data, rows, components):
        batch = task.take((data, rows, components, jnp.int32(2)), rows_of(8))
        return *task.loss(params, batch, None), kind.forward(params["network"], batch[0], None).features

    total, parts, features = loss(params, own.data, rows, components)
    expected = np.square(np.asarray(features) @ params["map"] - components)[:, :2].mean(-1)
    np.testing.assert_allclose(parts["components"], expected[np.asarray(rows.mask)].mean(), rtol=1e-5)
    np.testing.assert_allclose(total, parts["labels"] + 2 * parts["components"], rtol=1e-5)
