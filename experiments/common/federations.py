"""Federations of the study of collaborative learning: which nodes there are, what they see, whose windows are whose."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, Model, Rows, named_keys
from beamkd.collab import Federation, by_dirichlet, by_drive, by_place, by_segment, make_group, share_out
from beamkd.collab.nodes import Partition
from beamkd.data import Dataset, initial_model
from beamkd.models import SensorStudent, SensorTeacher
from beamkd.training import FitConfig

SIZES: dict[str, dict[str, Any]] = {
    "small": {},
    "large": {"channels": (8, 16), "embed": 32, "hidden": 48},
}
"""Of nodes' networks, as `SensorStudent` takes them."""

DROPOUT = 0.5
"""Of the teacher's codes."""


@dataclasses.dataclass(frozen=True)
class NodeKind:
    """What a node sees, and how large its network is.

    Attributes:
      sensor: by its name in networks.
      size: one of `SIZES`.
    """

    sensor: str
    size: str


def kinds_of(nodes: int, sensors: Sequence[str], sizes: Sequence[str]) -> dict[NodeKind, int]:
    """How many nodes of each kind there are: sensors in turn, and once they are through the next of the sizes."""
    turns = [NodeKind(sensors[i % len(sensors)], sizes[i // len(sensors) % len(sizes)]) for i in range(nodes)]
    return {kind: turns.count(kind) for kind in dict.fromkeys(turns)}


def partition_of(name: str, alpha: float, place: np.ndarray) -> Partition:
    """How windows are shared out, by its name; `place` is that of each drive by its number."""
    if name == "place":
        return by_place(place)
    return {"drive": by_drive, "segment": by_segment, "dirichlet": by_dirichlet(alpha)}[name]


def owners(dataset: Dataset, seeds: Sequence[int], partition: Partition, nodes: int) -> Rows:
    """Which windows to learn from each node has, [seeds, nodes, N]."""
    return share_out(seeds, partition, dataset.windows, dataset.split.train, nodes)


def federation_of(
    dataset: Dataset,
    networks: Sequence[tuple[Model, int]],
    train: Rows,
    fit: FitConfig,
    centre: Model,
    centre_fit: FitConfig | None = None,
    **options: Any,
) -> Federation:
    """Nodes of some kinds, and a centre.

    Shared windows, without labels, are those for validation, which nobody validates by.

    Args:
      dataset: windows with the sensors of all.
      networks: of each kind, with initial weights [seeds, ...], and how many nodes begin with it.
      train: whose windows are whose, [seeds, nodes, N].
      fit: how nodes learn.
      centre: its network with initial weights [seeds, ...].
      centre_fit: how the centre learns where it has all windows; as nodes do if None.
      **options: of `Federation`.
    """
    groups, first = [], 0
    for network, count in networks:
        own = jax.tree.map(lambda leaf, first=first, count=count: leaf[:, first : first + count], train)
        groups.append(make_group(dataset, _repeated(network, count), fit, own, dataset.split.val))
        first += count
    whole = jax.tree.map(lambda leaf: leaf[:, None], dataset.split.train)
    hub = make_group(dataset, _repeated(centre, 1), centre_fit or fit, whole, dataset.split.val)
    return Federation(tuple(groups), dataclasses.replace(hub, model=centre), **options)


def node_network(dataset: Dataset, keys: Array, kind: NodeKind) -> Model:
    """A node's network with initial weights, [seeds, ...]."""
    module = SensorStudent(sensors=(kind.sensor,), beams=dataset.beams, **SIZES[kind.size])
    return initial_model(named_keys(keys, f"{kind.sensor}_{kind.size}"), module, dataset.spec((kind.sensor,)))


def centre_teacher(dataset: Dataset, keys: Array) -> Model:
    """A large network of all sensors, likewise."""
    module = SensorTeacher(sensors=dataset.sensors, beams=dataset.beams, dropout=DROPOUT)
    return initial_model(named_keys(keys, "centre"), module, dataset.spec(dataset.sensors))


def _repeated(model: Model, count: int) -> Model:
    """The same at so many nodes, [seeds, nodes, ...]."""
    return dataclasses.replace(model, params=_repeat(model.params, count))


@functools.partial(jax.jit, static_argnums=1)
def _repeat(params: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], count, axis=1), params)
