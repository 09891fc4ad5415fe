"""Federated averaging of weights (McMahan et al., AISTATS 2017), and FedProx (Li et al., MLSys 2020)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beamkd.base import Array
from beamkd.collab.aggregate import mean
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import learn
from beamkd.collab.strategies.local import begin
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.training import Task, supervised_task


@struct.dataclass
class Global:
    """What the centre has.

    Attributes:
      params: the weights that all nodes begin the next round with.
    """

    params: Any


def fedavg(epochs: int = 1, proximal: float = 0.0, aggregate: Callable[[Any, Array], Any] = mean) -> Strategy:
    """In each round all nodes begin with the same weights, train them, and the centre takes the mean.

    A node counts by its windows. Its optimizer's state stays with it.

    Args:
      epochs: that a node trains in a round.
      proximal: μ of FedProx: nodes' loss has μ / 2 times the squared distance from the weights that they began with.
      aggregate: one of `beamkd.collab.aggregate`.
    """

    def tell(kind, key, own, mine, heard):
        return {"weights": mine.params}

    def work(kind, key, own, mine, heard):
        task = supervised_task(kind.forward, kind.take, kind.fit)
        task = near(task, heard["weights"], proximal) if proximal else task
        mine = learn(task, mine.replace(params=heard["weights"]), key, own.data, own.train, epochs)
        return mine, {"weights": mine.params, "windows": own.train.mask.sum()}

    def average(kind, key, own, mine, heard):
        said, active = heard
        count = jnp.where(active, said["windows"], 0)
        found = aggregate(said["weights"], count.astype(jnp.float32))
        return Global(jax.tree.map(lambda new, old: jnp.where(count.any(), new, old), found, mine.params))

    return by_exchange(
        "fedavg", Exchange(node=begin, centre=given, tell=tell, work=work, learn=average, central=True, alike=True)
    )


def given(kind, key, own, mine, heard):
    """A centre that has the weights that it was given."""
    return Global(mine)


def near(task: Task, anchor: Any, proximal: float) -> Task:
    """A task whose loss has `proximal` / 2 times the squared distance of the weights from `anchor`, too."""

    def loss(params, batch, key, **axis):
        total, parts = task.loss(params, batch, key, **axis)
        apart = jax.tree.map(lambda weight, begun: jnp.square(weight - begun).sum(), params, anchor)
        distance = 0.5 * sum(jax.tree.leaves(apart))
        return total + proximal * distance, parts | {"proximal": distance}

    return dataclasses.replace(task, loss=loss)
