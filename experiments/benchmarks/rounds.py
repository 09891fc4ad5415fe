"""Cases of the benchmark: rounds of collaborative learning among more and more nodes."""

import functools
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Rows
from beamkd.collab import STRATEGIES, Federation, Ledger, run_rounds
from beamkd.data import Dataset, deal, make_windows
from beamkd.sim import Street, simulate
from beamkd.training import fast_options, map_members
from experiments.benchmarks.timing import Bench, Point, Timing, repeated, sample
from experiments.collaborative import Collaborative
from experiments.common.federations import NodeKind, federation_of, node_network
from experiments.common.flags import SIMULATED_DRIVES

NODES = (10, 30, 100)
"""How many there are."""

WINDOWS = 128
"""Of each node, to learn from."""

USUAL = Collaborative()
"""Flags of the study, as far as they are used here."""

SETTINGS = {
    "fedmd": {"windows": USUAL.windows},
    "datafree": {"sequences": USUAL.sequences, "inversion": USUAL.inversion, "student": USUAL.student_fit},
}
"""Of strategies."""


def _rounds(name: str, bench: Bench) -> Iterator[Timing]:
    """One round of a strategy, nodes and centre together, and the bytes of its messages."""
    devices = max(point.devices for point in bench.points)
    keys, dataset = _data(bench)
    for nodes in NODES[:1] if bench.quick else NODES:
        federation = _federation(keys, dataset, nodes, devices)
        strategy, ledger = STRATEGIES[name](federation, epochs=USUAL.epochs, **SETTINGS.get(name, {})), Ledger()
        began = time.perf_counter()
        state = run_rounds(keys, strategy, federation, 1, after=ledger.add)
        first = time.perf_counter() - began
        everyone = np.ones((1, nodes), bool)
        again = repeated(lambda: strategy.round(keys, state, federation, everyone)[0])  # noqa: B023
        seconds = sample(again, bench.repeats)
        sent = {f"bytes_{link}": int(ledger.total(link).sum()) for link in ("up", "down")}
        more = {"nodes": nodes, **sent, "bytes_centre": _bytes_of(state.centre) + sent["bytes_up"]}
        compiling = max(0.0, first - float(np.median(seconds)))
        yield bench.row(Point(USUAL.node_fit.batch_size, nodes, devices), seconds, nodes, compiling, **more)


def _data(bench: Bench) -> tuple[jax.Array, Dataset]:
    keys = jax.vmap(jax.random.key)(jnp.arange(bench.seed, bench.seed + 1))
    return keys, deal(keys, make_windows(simulate(jax.random.key(bench.seed), Street(), SIMULATED_DRIVES)))


def _federation(keys: jax.Array, dataset: Dataset, nodes: int, devices: int) -> Federation:
    """Like nodes with as many windows each, drawn at random; two may have the same one."""
    model = node_network(dataset, keys, NodeKind("lidar", "small"))
    rows = dataset.split.train.index[0][dataset.split.train.mask[0]]
    index = np.random.default_rng(0).choice(np.asarray(rows), (1, nodes, WINDOWS)).astype(np.int32)
    over_members = functools.partial(map_members, devices=devices, compiler_options=fast_options())
    train = Rows(index, np.ones(index.shape, bool))
    return federation_of(dataset, [(model, nodes)], train, USUAL.node_fit, model, over_members=over_members)


def _bytes_of(tree: object) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))


ROUND_CASES: dict[str, Callable[[Bench], Iterator[Timing]]] = {
    f"rounds_{name}": functools.partial(_rounds, name) for name in ("fedavg", "fedmd", "datafree")
}
"""By name, in the order of the table."""
