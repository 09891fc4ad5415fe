"""Training in pieces: what a node or the centre does in a round, with an optimizer that stays with it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beamkd.base import Array, Rows
from beamkd.training.fit import FitConfig, Task, epoch_batches, optimizer_of, train_pass


@struct.dataclass
class Learner:
    """A network in training.

    Attributes:
      params: its weights.
      opt_state: the optimizer's state.
      epoch: epochs done, int32, by which the learning rate goes.
    """

    params: Any
    opt_state: Any
    epoch: Array


def beginner(config: FitConfig, params: Any) -> Learner:
    """A learner that has seen nothing."""
    return Learner(params, optimizer_of(config).init(params), jnp.int32(0))


def learn(task: Task, learner: Learner, key: Array, data: Any, rows: Rows, epochs: int = 1) -> Learner:
    """Train for some epochs.

    Args:
      task: what and how; of its configuration `epochs` only says how long the learning rate's schedule is.
      learner: whose optimizer may have served other tasks on the same weights.
      key: of these epochs. Each derives its own from it and `learner.epoch`.
      data: what `task.take` takes.
      rows: the rows to train on.
      epochs: how many.
    """

    def epoch(_, learner):
        batches, keys = epoch_batches(task.config, key, learner.epoch, rows)
        now = learner.params, learner.opt_state, learner.epoch
        params, opt_state, _ = train_pass(task, *now, data, batches, keys)
        return Learner(params, opt_state, learner.epoch + 1)

    return jax.lax.fori_loop(0, epochs, epoch, learner)
