"""Methods beside one another: what a study trains, the tables that it makes of them, and what they cost."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import InputError, Model, as_taken
from beamkd.claims import METRICS, Claim, difference, judge_all
from beamkd.data import Dataset, on_host
from beamkd.training import FitConfig, is_primary
from experiments.common.dataset import Trained, cost_of, describe, evaluate_networks
from experiments.common.flags import Flags
from experiments.common.run import Run

CALLS = 20
"""Of a network, of which the median is taken."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A network of a comparison, not trained yet.

    Attributes:
      name: in the results.
      label: in tables and figures.
      train: train() -> it, for all seeds.
      data_free: whether it sees no real window, label or validation score.
    """

    name: str
    label: str
    train: Callable[[], Trained]
    data_free: bool = False


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Methods to show together in a table; along an axis of numbers they make a curve, too.

    Attributes:
      title: of the table.
      methods: what is compared.
      axis: what the methods differ in; None if not in a number.
      values: of each method on the axis.
      teacher: which method the others are compared with.
      metrics: the columns; the usual ones if None.
    """

    title: str
    methods: Sequence[Method]
    axis: str | None = None
    values: tuple[float, ...] = ()
    teacher: str = "teacher"
    metrics: tuple[str, ...] | None = None


def methods_of(comparisons: Sequence[Comparison], *first: Method) -> dict[str, Method]:
    """All methods of some comparisons by name, each once, those of `first` ahead of the others."""
    compared = [method for comparison in comparisons for method in comparison.methods]
    return {method.name: method for method in (*first, *compared)}


def compare(
    run: Run,
    config: Flags,
    dataset: Dataset,
    comparisons: Sequence[Comparison],
    methods: dict[str, Method],
    networks: dict[str, Trained],
    claims: Sequence[Claim],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Test networks and judge claims by them.

    Args:
      run: the run.
      config: its flags.
      dataset: with the sensors of all networks.
      comparisons: the tables.
      methods: all of their methods, by name.
      networks: what these trained, likewise.
      claims: those of methods that are not there are left out.

    Returns:
      The parts of the results that a study's report is written from; and by network the beams predicted for current
      slots, [members, N].
    """
    with run.phase("evaluation"):
        scores, test_drives, beams = evaluate_networks(run, dataset, networks)
    return judged(config, dataset, comparisons, methods, scores, test_drives, claims), beams


def judged(
    config: Flags,
    dataset: Dataset,
    comparisons: Sequence[Comparison],
    methods: dict[str, Method],
    scores: dict[str, dict],
    test_drives: dict[str, Any],
    claims: Sequence[Claim],
) -> dict[str, Any]:
    """The parts of the results that a study's report is written from; arguments as of `compare`, and what it found."""
    described = [(each, _described(each, scores, test_drives["counts"])) for each in comparisons]
    return {
        "data": describe(config, dataset),
        "methods": scores,
        "test_drives": test_drives,
        "labels": {name: method.label for name, method in methods.items()},
        "data_free": [name for name, method in methods.items() if method.data_free],
        "tables": [shown for _, shown in described],
        "sweeps": [
            shown | {"axis": comparison.axis, "values": comparison.values, "log": True}
            for comparison, shown in described
            if comparison.axis
        ],
        "claims": judge_all(claims, scores, test_drives["counts"]),
    }


def refuse_streamed(dataset: Dataset) -> None:
    """Raise `InputError` for data that do not live on the device: studies hold theirs there."""
    if on_host(dataset.windows):
        found = f"{len(dataset.windows.frames.slot):,} frames"
        raise InputError(f"--data-dir: expected data that --resident lets live on the device, found {found}")


def say_tables(run: Run) -> None:
    """Print a study's claims and main table once its report is written, and where that is."""
    if is_primary():
        from beamkd.report import study  # here, for Matplotlib would delay the first step

        for table in study.console_tables(run.folder):
            run.say(table)
    run.say(f"report and figures in {run.folder}, {run.seconds['total']:.0f} s in all")


def _described(comparison: Comparison, scores: dict[str, dict], counts: dict[str, Any]) -> dict[str, Any]:
    """A comparison in the results; 'ahead': [difference to its teacher, lower, upper end] by method and metric."""

    def ahead(name: str, metric: str) -> tuple[float, float, float]:
        found = difference(name, comparison.teacher, scores, counts, metric)
        return found.mean, found.low, found.high

    names = [method.name for method in comparison.methods]
    students = [name for name in names if name != comparison.teacher]
    found = {name: {metric: ahead(name, metric) for metric in METRICS} for name in students}
    shown = {"title": comparison.title, "methods": names, "teacher": comparison.teacher, "ahead": found}
    return shown | ({"metrics": comparison.metrics} if comparison.metrics else {})


def in_rows(config: FitConfig, length: int) -> FitConfig:
    """The same training on rows that are runs of so many windows (`Dataset.in_runs`)."""
    return dataclasses.replace(config, batch_size=max(1, config.batch_size // length))


def costs(run: Run, dataset: Dataset, networks: dict[str, Trained], timed: bool = True) -> dict[str, dict[str, float]]:
    """What networks cost, by name: weights, operations and, `timed`, milliseconds a window; seconds an epoch and seed.

    Each was trained in a phase of its name; compilation counts.
    """
    known, found = {}, {}
    for name, network in networks.items():
        program = network.model.module, *network.model.inputs.items()
        if program not in known:
            known[program] = cost_of(network.model, future=dataset.future)
            known[program] |= {"ms_per_window": _milliseconds(network.model, dataset.future)} if timed else {}
        found[name] = dict(known[program])
        if network.fit is not None and name in run.seconds["phases"]:
            found[name]["seconds_per_epoch"] = run.seconds["phases"][name] / int(np.sum(network.fit.epoch))
    return found


def _milliseconds(model: Model, future: int) -> float:
    """Of one window on one device, the first seed's network."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), model.params)
    frames = as_taken({name: jnp.ones((1, *shape)) for name, shape in model.inputs.items()})
    predict = jax.jit(lambda params, frames: model.module.apply(params, frames, future=future).logits)

    def call() -> float:
        began = time.perf_counter()
        jax.block_until_ready(predict(params, frames))
        return 1e3 * (time.perf_counter() - began)

    call()
    return statistics.median(call() for _ in range(CALLS))
