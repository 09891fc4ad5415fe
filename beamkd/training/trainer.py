"""Training of many members to the end: on all devices, kept in checkpoints, gone on with where it was stopped."""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beamkd.base import InputError, Rows, Stream
from beamkd.training import checkpoints
from beamkd.training.devices import map_members
from beamkd.training.fit import Data, FitConfig, FitState, Params, Task, advance, start, stopped
from beamkd.training.hosts import from_primary, to_host
from beamkd.training.stream import epoch_of_stream, start_stream

CHUNKS = 20
"""A training comes up for air this often, to show progress."""

Step = Callable[[FitState], FitState]
"""Some epochs of all members."""


@dataclasses.dataclass(frozen=True)
class Trainer:
    """How the trainings of a program run; `train` then runs one.

    Attributes:
      over_members: over_members(function of one member, axes) -> of all, as `map_members` on some devices.
      folder: for checkpoints, one a training; None: none are kept.
      origin: what the trainings come from besides their names and rows, for instance a configuration, as JSON knows
        it. A checkpoint of another origin is refused.
      resume: go on from a training's checkpoint, where there is one.
      progress: progress(name, state) is called before the first epoch and now and then, in every process.
      axis_name: the axis of devices that share each member's batches, which `over_members` binds; None: none do.
      interval: seconds after which a training's next checkpoint is due. There is one at its end in any case.
    """

    over_members: Callable = map_members
    folder: Path | None = None
    origin: Any = None
    resume: bool = False
    progress: Callable[[str, FitState], None] = lambda name, state: None
    axis_name: str | None = None
    interval: float = 1.0

    def train(
        self,
        name: str,
        task: Task,
        keys: Any,
        params: Params,
        data: Data | Stream,
        train: Rows,
        val: Rows | None = None,
        axes: Any = None,
    ) -> FitState:
        """Train all members of a task.

        Args:
          name: of the training, for its checkpoint and messages.
          task: what and how.
          keys: [members] keys.
          params: initial weights, [members, ...].
          data: what `task.take` takes, or a stream of it.
          train: the rows to train on, [members, N] or, of data on the device, shared [N].
          val: the rows to choose the epoch by, likewise; or None.
          axes: of data on the device: 0 where they have an axis of members, None where members share them.

        Returns:
          The end of training, [members, ...], NumPy's arrays.

        Raises:
          InputError: the loss is no longer finite, or a checkpoint is of something else, damaged, or not to be written.
        """
        if isinstance(data, Stream):
            state, step = self._streamed(task, keys, params, data, train, val)
        else:
            state, step = self._resident(task, keys, params, data, train, val, axes)
        state, digest = to_host(state), digest_of([self.origin, name], (train, val))
        if self.folder and self.resume:
            state = from_primary(lambda: to_host(checkpoints.restore(self.folder, name, state, digest) or state))
        self.progress(name, state)
        kept = time.monotonic()
        while not stopped(task.config, state).all():
            state = to_host(step(state))
            _check_finite(name, state)
            if self.folder:
                kept = from_primary(functools.partial(self._keep, name, task.config, state, digest, kept))
            self.progress(name, state)
        return state

    def _keep(self, name: str, config: FitConfig, state: FitState, digest: str, kept: float) -> float:
        """Write a checkpoint if one is due since that of time `kept`, or at the end: the time of the last one."""
        if time.monotonic() < kept + self.interval and not stopped(config, state).all():
            return kept
        checkpoints.save(self.folder, name, state, digest)
        return time.monotonic()

    def _resident(
        self, task: Task, keys: Any, params: Params, data: Data, train: Rows, val: Rows | None, axes: Any
    ) -> tuple[FitState, Step]:
        """The first state of a training on data that live on the device, and a step of some epochs."""
        rows = 0 if train.index.ndim == 2 else None
        begin = jax.jit(jax.vmap(functools.partial(start, task), (0, axes, rows)))
        step = self.over_members(
            functools.partial(advance, task, axis_name=self.axis_name), (0, 0, axes, rows, rows, None)
        )
        stride = -(-task.config.epochs // CHUNKS)
        first = begin(params, data, train)
        return first, lambda state: step(state, keys, data, train, val, epochs_done(state) + stride)

    def _streamed(
        self, task: Task, keys: Any, params: Params, stream: Stream, train: Rows, val: Rows | None
    ) -> tuple[FitState, Step]:
        """As `_resident`, with data on the host. A step is an epoch, for these are long."""
        step = epoch_of_stream(task, stream, self.over_members, self.axis_name)
        return start_stream(task, params, stream, train), lambda state: step(state, keys, train, val)


def epochs_done(state: FitState) -> int:
    """Epochs of the member that has trained longest."""
    return int(np.max(state.epoch))


def digest_of(about: Any, rows: Any) -> str:
    """Of all that a checkpoint comes from: plain values, and the rows to train on and to be validated by."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for leaf in jax.tree.leaves(rows):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def _check_finite(name: str, state: FitState) -> None:
    losses = np.asarray(state.history["loss"])[np.arange(len(state.epoch)), np.asarray(state.epoch) - 1]
    if not np.isfinite(losses).all():
        member = np.flatnonzero(~np.isfinite(losses))[0]
        advice = "a smaller learning rate may help"
        raise InputError(
            f"{name}: expected a finite loss, found {losses[member]} with seed number {member + 1}; {advice}"
        )
