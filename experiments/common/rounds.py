"""Rounds of a strategy as a part of a run: timed, counted, and kept in checkpoints by round."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beamkd.base import Array
from beamkd.collab import Federation, Ledger, Message, State, Strategy, run_rounds
from beamkd.training import checkpoints, from_primary
from beamkd.training.trainer import digest_of
from experiments.common.folder import CHECKPOINTS
from experiments.common.run import Run

LINKS = ("up", "down", "between", "edge up", "edge down")
"""All that messages cross."""

INTERVAL = 1.0
"""Seconds after which the next checkpoint is due; there is one at the end in any case."""


@dataclasses.dataclass
class Course:
    """How rounds went.

    Attributes:
      state: after the last one.
      ledger: of all messages.
      curve: accuracy of each node after each round, [rounds, seeds, nodes]; NaN where it was not measured.
    """

    state: State
    ledger: Ledger
    curve: np.ndarray


def run_course(
    run: Run,
    name: str,
    keys: Array,
    strategy: Strategy,
    federation: Federation,
    rounds: int,
    active: Callable[[int], Array] | None,
    measure: Callable[[State], np.ndarray],
    every: int,
) -> Course:
    """Run a strategy, or go on with it where its checkpoint left it.

    Args:
      run: the run.
      name: of the phase.
      keys: [seeds].
      strategy: how.
      federation: who.
      rounds: how many in all.
      active: as of `run_rounds`.
      measure: measure(state) -> accuracy of each node, [seeds, nodes].
      every: rounds after which it is measured, and at the end.
    """
    shape = rounds, federation.seeds, federation.nodes
    course = Course(strategy.init(keys, federation), Ledger(), np.full(shape, np.nan, np.float32))
    about = [run.name, run.config, name], [jax.tree.map(np.asarray, group.own.train) for group in federation.groups]
    checkpoint = run.folder / CHECKPOINTS, name, digest_of(*about)
    kept = time.monotonic()
    if run.resume:
        course = from_primary(lambda: _restored(*checkpoint, course))

    def after(number: int, state: State, messages: tuple[Message, ...]) -> None:
        nonlocal kept
        course.state = state
        course.ledger.add(number, state, messages)
        last = number == rounds - 1
        if last or (number + 1) % every == 0:
            course.curve[number] = measure(state)
        if last or time.monotonic() > kept + INTERVAL:
            from_primary(functools.partial(_keep, *checkpoint, course))
            kept = time.monotonic()

    run_rounds(keys, strategy, federation, rounds, active, course.state, after)
    return course


def _keep(folder: Path, name: str, digest: str, course: Course) -> None:
    """Write a checkpoint."""
    checkpoints.save(folder, name, _as_arrays(course), digest)


def _restored(folder: Path, name: str, digest: str, begun: Course) -> Course:
    """The course as a checkpoint has it; that which has `begun` if there is none."""
    found = checkpoints.restore(folder, name, _as_arrays(begun), digest)
    if found is None:
        return begun

    def by_round(bytes_: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        done = range(int(found["state"].done))
        return [{link: each[number] for link, each in bytes_.items() if each[number].any()} for number in done]

    return Course(found["state"], Ledger(by_round(found["bytes"]), by_round(found["longest"])), found["curve"])


def _as_arrays(course: Course) -> dict[str, Any]:
    """A course as a checkpoint has it; its ledger [rounds, seeds] by link."""
    rounds, seeds, _ = course.curve.shape

    def filled(counted: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        found = {link: np.zeros((rounds, seeds), np.uint32) for link in LINKS}
        for number, by_link in enumerate(counted):
            for link, each in by_link.items():
                found[link][number] = each
        return found

    ledger = course.ledger
    counted = {"bytes": filled(ledger.rounds), "longest": filled(ledger.longest)}
    return {"state": course.state, "curve": course.curve, **counted}
