"""Collaborative learning (arXiv 2603.16116): a centre and many unequal nodes, which teach one another by a strategy.

Each node has windows of its own, a sensor and a network. What crosses between nodes and the centre is counted by the
byte. Strategies are compared by how well nodes predict beams after all rounds, and by what that took.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

from beamkd.base import InputError, expect_at_least
from beamkd.claims import Claim
from beamkd.collab import CODECS, STRATEGIES, Faults, Noise, Rates, UnlikeNodes, by_dirichlet
from beamkd.collab.aggregate import AGGREGATES
from beamkd.collab.strategies import Synthesis
from beamkd.training import FitConfig, is_primary
from experiments.common.collab_results import described_nodes, frame_bytes, places, tested
from experiments.common.collab_study import HANDED_OVER_ONCE, Played, Setting, Study, open_places
from experiments.common.comparison import Comparison, Method, costs, judged, refuse_streamed, say_tables
from experiments.common.dataset import Trained
from experiments.common.federations import SIZES
from experiments.common.flags import Flags, main
from experiments.common.network import run_on_network
from experiments.common.recipes import smaller
from experiments.common.run import Run

LABELS = {
    "local": "each node alone",
    "self": "self-distillation",
    "pooled": "all data at the centre",
    "central_kd": "teacher at the centre",
    "progressive": "teacher's components (PCA)",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fedmd": "FedMD",
    "dsfl": "DS-FL",
    "cfd": "CFD",
    "feddf": "FedDF",
    "fedproto": "FedProto",
    "fedgkt": "FedGKT",
    "mutual": "neighbours",
    "hierarchical": "by way of edge servers",
    "dense": "DENSE",
    "co_boosting": "Co-Boosting",
    "datafree": "collaborative data-free (ours)",
}
"""What tables call strategies."""

EQUAL = 0.03
"""What is on a par with FedMD."""

PARTS = {
    "drive": ("by drive", "drive", 1.0),
    "dirichlet_1": ("Dirichlet(1)", "dirichlet", 1.0),
    "dirichlet_0.3": ("Dirichlet(0.3)", "dirichlet", 0.3),
    "dirichlet_0.1": ("Dirichlet(0.1)", "dirichlet", 0.1),
    "segment": ("by part of the road", "segment", 1.0),
}
"""Of the grid 'partitions', from alike to unlike nodes."""

UNLIKE = ("local", "pooled", "fedavg", "fedmd", "dsfl", "cfd", "feddf", "fedproto", "datafree")
"""Its strategies."""

FAILING = {
    "none": ("nobody fails", lambda nodes: Faults()),
    "dropping": ("10 % drop out", lambda nodes: Faults(drop=0.1)),
    "lagging": ("one node lags", lambda nodes: Faults(lag=(0,))),
    "broken": ("one node says NaN", lambda nodes: Faults(broken=(0,))),
    "garbage": ("one node says noise", lambda nodes: Faults(garbage=(0,))),
    "hostile": ("a fifth is hostile", lambda nodes: Faults(hostile=tuple(range(max(1, nodes // 5))))),
}
"""Of the grid 'faults'."""

TABLES = {
    "strategies": "Strategies",
    "partitions": "Nodes whose windows are more and more unlike",
    "faults": "Nodes that fail, by aggregation",
    "codecs": "How messages are written",
}
"""Titles of tables, by grid."""


@dataclasses.dataclass(frozen=True)
class Collaborative(Flags):
    """Flags of the study of collaborative learning."""

    grid: Literal["strategies", "partitions", "faults", "codecs"] = "strategies"
    """What to compare: strategies; how unlike nodes' windows are; what goes wrong, by aggregation; or how messages are
    written."""
    strategies: tuple[str, ...] = ()
    """Which, with spaces or commas between. If not given, all, or those of the grid, that these nodes can do."""
    sensors: tuple[str, ...] = ("lidar", "camera", "gps")
    """What nodes see, each one of these in turn: lidar, radar, doppler, camera, gps. A network at the centre that
    learns from nodes is as that of the first."""
    sizes: tuple[str, ...] = ("small", "large")
    """Of nodes' networks, in turn once all sensors have had theirs: small, large."""
    nodes: int = 10
    """How many."""
    rounds: int = 20
    """How many; strategies that hand over a model once have one, in which nodes train as long as in all of these."""
    epochs: int = 5
    """That a node trains in a round."""
    partition: Literal["drive", "segment", "dirichlet", "place"] = "drive"
    """Whose windows are whose: by drive, by part of the road, each beam's by a draw of Dirichlet(α), or by place: nodes
    take base stations in turn, those of several folders or of `--stations`, and are judged each at its own."""
    stations: int = 1
    """Base stations to simulate, each at a street of its own out of a family; the drives are shared out among them."""
    alpha_dirichlet: float = 0.5
    """α: the less, the more unlike nodes are."""
    windows: int = 256
    """That are asked about in a round; nodes make as many steps on the answers however few there are."""
    graph: Path | None = None
    """Which nodes are neighbours: a text file with a row of 0 and 1 for each node; a ring if not given."""
    aggregate: str = "mean"
    """How the centre makes one value of many: mean, trimmed, median, geometric, krum."""
    codec: Literal["float32", "float16", "int8", "top"] = "float32"
    """How messages are written; top: the eight best beams of logits, the rest in float16."""
    faults: Faults = Faults()
    """What goes wrong."""
    noise: float = 0.0
    """Deviation of Gaussian noise on what nodes say, over `--clip`; 0: none."""
    clip: float = 1.0
    """Greatest norm of what a node says, with noise."""
    rates: Rates = Rates()
    """Of links and processors, for seconds and energy."""
    node_fit: FitConfig = FitConfig(batch_size=32, clip=1, learning_rate=3e-3)
    """Training of nodes; its epochs are `--rounds` times `--epochs`."""
    teacher_fit: FitConfig = FitConfig(epochs=60, patience=10, clip=1)
    """Training of the teacher at the centre, on all windows and sensors."""
    sequences: int = 5000
    """Scenes of the data-free strategy."""
    inversion: FitConfig = FitConfig(epochs=300, patience=0, learning_rate=3e-4)
    """Training of its generators, one a node; an epoch is a step."""
    student_fit: FitConfig = FitConfig(epochs=60, patience=0, learning_rate=3e-3)
    """Training of its student."""
    synthesis: Synthesis = Synthesis()
    """Scenes of DENSE and Co-Boosting, and their student."""
    engine: Literal["simulator", "flower"] = "simulator"
    """Where nodes are: all in this process, or each one a process on a network, by Flower (extra 'federation')."""
    superlink: str | None = None
    """With flower: a connection of its configuration. If not given, a network of this machine alone is started."""
    wait: float = 600.0
    """With flower: seconds that the centre waits for nodes in a round."""

    def __post_init__(self):
        super().__post_init__()
        expect_at_least(self, nodes=1, rounds=1, epochs=1, windows=1, sequences=1, noise=0, wait=1, stations=1)
        if self.stations > min(self.drives, 1 if self.source != "sim" else self.drives):
            most = self.drives if self.source == "sim" else f"1 with --source {self.source}"
            raise InputError(f"--stations: expected at most {most}, found {self.stations}")
        if self.engine == "flower" and (self.faults != Faults() or self.grid == "faults"):
            raise InputError("--faults: expected none with --engine flower, where nodes fail by themselves, found some")
        for name, known in (("strategies", STRATEGIES), ("sizes", SIZES)):
            given = tuple(word for each in getattr(self, name) for word in each.split(",") if word)
            object.__setattr__(self, name, given)
            for unknown in (word for word in given if word not in known):
                raise InputError(f"--{name}: expected some of {', '.join(known)}, found {unknown}")
        if not self.sizes:
            raise InputError(f"--sizes: expected some of {', '.join(SIZES)}, found none")
        if self.aggregate not in AGGREGATES:
            raise InputError(f"--aggregate: expected one of {', '.join(AGGREGATES)}, found {self.aggregate}")
        by_dirichlet(self.alpha_dirichlet)  # says what is wrong with α
        self.hiding()

    def hiding(self) -> Noise | None:
        """The noise, if there is any."""
        return Noise(self.clip, self.noise) if self.noise else None


QUICK = {"seeds": 1, "drives": 8, "nodes": 3, "rounds": 2, "epochs": 1, "windows": 64, "sequences": 60}
QUICK |= {"teacher_fit": 2, "inversion": 5, "student_fit": 3}
"""What `--quick` makes smaller, with one sensor alone, that of the first nodes, and one size."""

QUICK_SYNTHESIS = {"batches": 2, "steps": 3, "batch_size": 16}


def run(config: Collaborative, network: Any = None) -> None:
    """Run the study; leaves its folder with results and report.

    Args:
      config: the flags.
      network: the nodes of a network (`beamkd.collab.flower.Nodes`), for which this is the centre.
    """
    config = quick(config) if config.quick else config
    if config.engine == "flower" and network is None:
        folder = config.out or Path("runs") / "collaborative"
        run_on_network(folder, config.nodes, config.superlink, sys.argv[1:], config.resume)
        return
    run = Run("collaborative", config, soon=config.quick)
    dataset, keys = open_places(run, config)
    refuse_streamed(dataset)
    study = Study(run, dataset, keys, config, network)
    settings = GRIDS[config.grid](config)
    study.check(settings)
    if network is not None:
        network.gather()
    networks = {"teacher": study.teacher, **{name: Trained(model) for name, model in study.networks.items()}}
    played, left_out = _play(study, settings)
    with run.phase("evaluation"):
        methods, test_drives = tested(study, played)
    shown = _methods(played, methods)
    comparison = Comparison(TABLES[config.grid], [*shown.values()], teacher=next(iter(shown)))
    parts = judged(config, dataset, [comparison], shown, methods, test_drives, _claims(shown))
    _keep_map(run, study)
    parts |= {"models": costs(run, dataset, networks, timed=not config.quick), "left_out": left_out}
    run.finish(**parts, nodes=described_nodes(study), frame_bytes=frame_bytes(study))
    if is_primary():
        from beamkd.report import collaborative  # here, for Matplotlib would delay the first step

        collaborative.write(run.folder)
    say_tables(run)


def _play(study: Study, settings: list[Setting]) -> tuple[list[Played], dict[str, str]]:
    """Settings after their rounds, and why others are left out, which these nodes cannot do; not if they are named."""
    played, left_out = [], {}
    for setting in settings:
        try:
            played.append(study.play(setting))
        except UnlikeNodes as error:
            if setting.strategy in study.config.strategies:
                raise
            left_out[setting.name] = str(error)
            study.run.say(f"{setting.name:<22} left out: {error}")
    return played, left_out


def _methods(played: list[Played], found: dict[str, Any]) -> dict[str, Method]:
    """All that is shown, that which the others are compared with first."""
    settings = [each.setting for each in played]
    shown = [Method(each.name, each.label, None, data_free=each.strategy in HANDED_OVER_ONCE) for each in settings]
    more = {"best_node": "best node alone", "teacher": "teacher of all sensors, all data"}
    shown += [Method(name, label, None) for name, label in more.items() if name in found]
    return {method.name: method for method in shown}


def _claims(shown: dict[str, Method]) -> list[Claim]:
    """What collaboration is worth."""
    alone = [
        Claim("alone", f"{method.label}: better than each node alone.", name, "local")
        for name, method in shown.items()
        if name not in ("local", "teacher", "best_node")
    ]
    free = "collaborative data-free"
    return alone + [
        Claim("free", f"{free.capitalize()} is within 3 points of FedMD.", "datafree", "fedmd", EQUAL),
        Claim("free", f"{free.capitalize()} beats DENSE.", "datafree", "dense"),
        Claim("free", f"{free.capitalize()} beats Co-Boosting.", "datafree", "co_boosting"),
        Claim("free", f"{free.capitalize()} beats the best node alone.", "datafree", "best_node"),
        Claim("bytes", "CFD is within 3 points of FedAvg.", "cfd", "fedavg", EQUAL),
        Claim("bytes", "FedMD is within 3 points of FedAvg.", "fedmd", "fedavg", EQUAL),
    ]


def _setting(config: Collaborative, strategy: str, name: str = "", label: str = "", **changes: Any) -> Setting:
    """A strategy as the flags have it but for some changes, which are a further part of its name and label."""
    usual = {"partition": config.partition, "alpha": config.alpha_dirichlet, "aggregate": config.aggregate}
    usual |= {"codec": config.codec, "faults": config.faults}
    name, label = "_".join(filter(None, (strategy, name))), ", ".join(filter(None, (LABELS[strategy], label)))
    return Setting(name, label, strategy, **{**usual, **changes})


def _strategies_grid(config: Collaborative) -> list[Setting]:
    return [_setting(config, name) for name in config.strategies or STRATEGIES]


def _partitions_grid(config: Collaborative) -> list[Setting]:
    return [
        _setting(config, strategy, name, label, partition=partition, alpha=alpha)
        for strategy in config.strategies or UNLIKE
        for name, (label, partition, alpha) in PARTS.items()
    ]


def _faults_grid(config: Collaborative) -> list[Setting]:
    return [
        _setting(
            config,
            strategy,
            f"{name}_{rule}",
            f"{label}, {rule}",
            faults=faults(config.nodes),
            aggregate=rule,
        )
        for strategy in config.strategies or ("fedavg", "fedmd")
        for name, (label, faults) in FAILING.items()
        for rule in AGGREGATES
    ]


def _codecs_grid(config: Collaborative) -> list[Setting]:
    return [
        _setting(config, strategy, codec, codec, codec=codec)
        for strategy in config.strategies or ("fedavg", "fedmd", "cfd", "datafree")
        for codec in CODECS
    ]


GRIDS = {
    "strategies": _strategies_grid,
    "partitions": _partitions_grid,
    "faults": _faults_grid,
    "codecs": _codecs_grid,
}


def _keep_map(run: Run, study: Study) -> None:
    """Arrays behind the map: where the windows of each node were, of the first seed."""
    if is_primary():
        position, owner = places(study)
        np.savez_compressed(run.folder / "figures.npz", position=position, owner=owner)


def quick(config: Collaborative) -> Collaborative:
    """The flags of a `--quick` run."""
    small = smaller(config, QUICK)
    synthesis = smaller(config.synthesis, QUICK_SYNTHESIS)
    return dataclasses.replace(small, sensors=config.sensors[:1], sizes=config.sizes[:1], synthesis=synthesis)


if __name__ == "__main__":
    main("collaborative", Collaborative, run)
