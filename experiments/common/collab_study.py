"""What the study of collaborative learning does with each setting: make its federation, run it, test its nodes."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from beamkd.base import Array, InputError, Model, Rows, cached_method, named_keys
from beamkd.collab import STRATEGIES, Faults, Federation, State, Strategy, Work, work_of
from beamkd.collab.aggregate import AGGREGATES
from beamkd.collab.codecs import CODECS
from beamkd.collab.strategies import CO_BOOSTING, mutual
from beamkd.collab.strategies.mutual import checked
from beamkd.data import Dataset
from beamkd.data.masks import SOURCE
from beamkd.training import Scores, to_host
from experiments.common.dataset import Trained, open_dataset, over_all_batches, scorer
from experiments.common.federations import (
    NodeKind,
    centre_teacher,
    federation_of,
    kinds_of,
    node_network,
    owners,
    partition_of,
)
from experiments.common.methods import train_on_labels
from experiments.common.places import load_places, place_of_drives
from experiments.common.rounds import LINKS, Course, run_course
from experiments.common.run import Run

HANDED_OVER_ONCE = ("dense", "co_boosting", "datafree")
"""Strategies with a single round, whose centre sees no window."""

ASKING = ("central_kd", "progressive", "fedmd", "dsfl", "feddf", "mutual", "hierarchical")
"""Those in which a number of windows is asked about in a round."""

AGGREGATING = ("fedavg", "fedprox", "fedmd", "dsfl", "feddf")
"""Those that make one value of nodes' by a rule that can be chosen."""

BY_TEACHER = ("central_kd", "progressive")
"""Those whose centre has the large network of all sensors."""

POOLED_EPOCHS = 20
"""In all, or one a round, of a centre that has all windows: it learned them by heart in as many as nodes have."""

MEASURED = 10
"""How often accuracy is measured over the rounds."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A strategy, and among whom and how it runs.

    Attributes:
      name: in the results.
      label: in tables and figures.
      strategy: by its name.
      partition: whose windows are whose.
      alpha: of the Dirichlet distribution.
      aggregate: how the centre makes one value of many.
      codec: how messages are written.
      faults: what goes wrong.
    """

    name: str
    label: str
    strategy: str
    partition: str
    alpha: float
    aggregate: str
    codec: str
    faults: Faults


@dataclasses.dataclass(frozen=True)
class Played:
    """A setting after its rounds.

    Attributes:
      setting: which.
      models: networks by which nodes predict, by group [seeds, nodes, ...]; a single one [seeds, 1, ...] if all predict
        by the centre's.
      course: how it went.
      work: operations of a round.
    """

    setting: Setting
    models: tuple[Model, ...]
    course: Course
    work: Work


def open_places(run: Run, config: Any) -> tuple[Dataset, Array]:
    """The drives of all base stations, as `open_dataset`."""
    places = place_of_drives(config) if config.stations > 1 else None
    return open_dataset(run, config, load_drives=load_places, places=places)


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """What all settings start from.

    Attributes:
      run: the run.
      dataset: the windows.
      keys: [seeds].
      config: the flags.
      network: the nodes, if they are on a network (`beamkd.collab.flower.Nodes`).
      at_centre: whether this is the centre, or all there is; a node has no teacher.
    """

    run: Run
    dataset: Dataset
    keys: Array
    config: Any
    network: Any = None
    at_centre: bool = True

    @functools.cached_property
    def kinds(self) -> dict[NodeKind, int]:
        """How many nodes of each kind there are, in the order of the flags; the centre's network is of the first."""
        made_of = {source: name for name, source in SOURCE.items()}
        named = dict.fromkeys(made_of.get(name, name) for name in self.config.sensors)
        return kinds_of(self.config.nodes, [*named], self.config.sizes)

    @functools.cached_property
    def networks(self) -> dict[str, Model]:
        """Nodes' networks with initial weights [seeds, ...], by kind."""
        return {f"{kind.sensor}_{kind.size}": node_network(self.dataset, self.keys, kind) for kind in self.kinds}

    @functools.cached_property
    def graph(self) -> np.ndarray | None:
        """Which nodes are neighbours, if the flags say so."""
        return read_graph(self.config.graph, self.config.nodes) if self.config.graph else None

    @functools.cached_property
    def place(self) -> np.ndarray:
        """Of each drive by its number; all 0 where there is one base station."""
        return place_of_drives(self.config)

    @cached_method
    def judged(self, partition: str, part: str = "test") -> Rows:
        """Windows of a part of the split that each node is judged on, [seeds, nodes, N]: its place's, if it has one.

        Raises:
          InputError: a node has none.
        """
        rows, nodes = to_host(getattr(self.dataset.split, part)), np.arange(self.config.nodes)
        index, mask = (np.repeat(leaf[:, None], len(nodes), axis=1) for leaf in (rows.index, rows.mask))
        if partition == "place":
            here = self.place[np.asarray(self.dataset.windows.drive)[index]]
            mask = mask & (here == (nodes % (self.place.max() + 1))[:, None])
        for node in np.flatnonzero(~mask.any(-1).all(0)):
            raise InputError(f"--partition place: expected windows to judge node {node} by in each seed, found none")
        return Rows(index, mask)

    @functools.cached_property
    def teacher(self) -> Trained:
        """The large network at the centre, on all windows and sensors."""
        model, fit = centre_teacher(self.dataset, self.keys), self.config.teacher_fit
        if not self.at_centre:
            return Trained(model)
        return train_on_labels(self.run, self.keys, self.dataset, model, fit, "teacher")

    @cached_method
    def owners(self, partition: str, alpha: float) -> Rows:
        """Whose windows are whose, [seeds, nodes, N]."""
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        return owners(self.dataset, seeds, partition_of(partition, alpha, self.place), self.config.nodes)

    def check(self, settings: Sequence[Setting]) -> None:
        """Look at what settings need before anything is trained.

        Raises:
          InputError: a node would be without windows, or the graph cannot be used.
        """
        for setting in settings:
            self.owners(setting.partition, setting.alpha)
            self.judged(setting.partition)
        if self.graph is not None:
            checked(self.graph)

    def federation(self, setting: Setting) -> Federation:
        """Who takes part in a setting."""
        config = self.config
        networks = [*zip(self.networks.values(), self.kinds.values(), strict=True)]
        hub, _ = networks[0]
        if setting.strategy in BY_TEACHER:
            hub = dataclasses.replace(self.teacher.model, params=jax.tree.map(jnp.asarray, self.teacher.model.params))
        fit = dataclasses.replace(config.node_fit, epochs=config.rounds * config.epochs)
        centre_fit = dataclasses.replace(fit, epochs=config.rounds * self.pooled_epochs)
        options = {"codec": CODECS[setting.codec], "noise": config.hiding()}
        faults = setting.faults if setting.faults != Faults() else None
        rows = self.owners(setting.partition, setting.alpha)
        over_members = self.run.over_members
        options |= {"faults": faults, "over_members": over_members}
        return federation_of(self.dataset, networks, rows, fit, hub, centre_fit, **options)

    @property
    def pooled_epochs(self) -> int:
        """In a round of a centre that has all windows."""
        return min(math.ceil(POOLED_EPOCHS / self.config.rounds), self.config.epochs)

    def strategy(self, setting: Setting, federation: Federation) -> Strategy:
        """How a setting's nodes learn from one another.

        Raises:
          InputError: these nodes cannot do it.
        """
        name, config = setting.strategy, self.config
        options: dict[str, Any] = {"epochs": config.epochs * (config.rounds if name in HANDED_OVER_ONCE else 1)}
        options |= {"epochs": self.pooled_epochs} if name == "pooled" else {}
        options |= {"windows": config.windows} if name in ASKING else {}
        options |= {"aggregate": AGGREGATES[setting.aggregate]} if name in AGGREGATING else {}
        if name == "datafree":
            options |= {"sequences": config.sequences, "inversion": config.inversion, "student": config.student_fit}
        if name == "dense":
            options["synthesis"] = config.synthesis
        if name == "co_boosting":
            boosting = {"boost": CO_BOOSTING.boost, "nudge": CO_BOOSTING.nudge}
            options["synthesis"] = dataclasses.replace(config.synthesis, **boosting)
        if name == "mutual" and self.graph is not None:
            strategy = mutual(self.graph, **options)
        else:
            strategy = STRATEGIES[name](federation, **options)
        if self.network is None:
            return strategy
        from beamkd.collab.flower import over_flower  # here, for only some users have Flower

        return over_flower(setting.name, strategy, self.network)

    def play(self, setting: Setting) -> Played:
        """Run a setting's rounds.

        Raises:
          InputError: these nodes cannot do it.
        """
        federation = self.federation(setting)
        strategy = self.strategy(setting, federation)
        keys = named_keys(self.keys, setting.name)
        rounds = 1 if setting.strategy in HANDED_OVER_ONCE else self.config.rounds
        active = (
            federation.faults.active(named_keys(self.keys, "faults"), federation.nodes) if federation.faults else None
        )

        def measure(state: State) -> np.ndarray:
            return self.top5(self._models(setting, strategy, state, federation), self.judged(setting.partition))

        with self.run.phase(setting.name):
            every = max(1, rounds // MEASURED) if self.network is None else rounds  # nodes hand over weights for it
            course = run_course(self.run, setting.name, keys, strategy, federation, rounds, active, measure, every)
            work = work_of(strategy, federation)
        played = Played(setting, self._models(setting, strategy, course.state, federation), course, work)
        self.run.say(_summary(played, self.run.seconds["phases"][setting.name]))
        return played

    def _models(self, setting: Setting, strategy: Strategy, state: State, federation: Federation) -> tuple[Model, ...]:
        """By which nodes predict, see `Played`."""
        models = strategy.deployed(state, federation)
        if not strategy.exchange.central or setting.partition == "place":
            return models
        params = jax.tree.map(lambda leaf: leaf[:, :1], models[0].params)
        return (dataclasses.replace(models[0], params=params),)

    def top5(self, models: tuple[Model, ...], rows: Rows) -> np.ndarray:
        """Top-5 of each node on its rows [seeds, nodes, N], mean over slots, [seeds, nodes]."""
        found, first = [], 0
        for model in models:
            seeds, nodes = jax.tree.leaves(model.params)[0].shape[:2]
            flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), model.params)
            own = jax.tree.map(lambda leaf: leaf[:, first : first + nodes].reshape(seeds * nodes, -1), rows)  # noqa: B023
            first += nodes
            scores = self._scorer(model.module, tuple(model.inputs.items()))(flat, own)
            top5 = np.asarray(over_all_batches(scores)["top5"])
            found.append(top5.mean(-1).reshape(seeds, nodes))
        return np.broadcast_to(np.concatenate(found, axis=1), (len(self.keys), self.config.nodes))

    @cached_method
    def _scorer(self, module: nn.Module, inputs: tuple) -> Callable[[Any, Rows], Scores]:
        return scorer(self.run, self.dataset, Model(module, None, dict(inputs)))


def read_graph(path: Path, nodes: int) -> np.ndarray:
    """Which nodes are neighbours, [nodes, nodes], from a text file with a row of 0 and 1 for each node.

    Raises:
      InputError: it cannot be read, or is of another number of nodes. Other rules are those of `mutual`.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of an empty file
            graph = np.loadtxt(path, delimiter="," if "," in path.read_text() else None, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"--graph: expected rows of 0 and 1 in {path}, found: {error}") from None
    if graph.shape != (nodes, nodes):
        found = " x ".join(map(str, graph.shape))
        raise InputError(f"--graph: expected {nodes} x {nodes} numbers in {path}, found {found}")
    return graph


def _summary(played: Played, seconds: float) -> str:
    """A line on a setting."""
    ledger, top5 = played.course.ledger, 100 * played.course.curve[-1].mean()
    sent = sum(float(np.mean(ledger.total(link))) for link in LINKS)
    said = f"{len(played.course.curve)} rounds, Top-5 {top5:.1f} %, {sent / 1e6:.2f} MB"
    return f"{played.setting.name:<22} {said:<44} {seconds:6.1f} s"
