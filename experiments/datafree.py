"""Data-free knowledge distillation for LiDAR-aided beam tracking (arXiv 2509.19092), end to end.

A teacher is trained, or loaded. Its owner hands over its weights and statistics of its layers. Generators learn to make
LiDAR sequences that look right to the teacher, and a small student learns from the teacher's answers on these alone.
Beside it stand the same student trained on the real labels ('scratch') and by distillation on the real windows ('kd').
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from beamkd.base import Array, InputError
from beamkd.losses import kl
from beamkd.models import GruStudent
from beamkd.training import FitConfig, all_rows, is_primary, to_host
from beamkd.training.hosts import agreed
from experiments.common.dataset import (
    Net,
    World,
    cost,
    cost_of,
    describe,
    evaluate_nets,
    keep_networks,
    open_world,
    over_all_batches,
    scorer,
)
from experiments.common.flags import Flags, main
from experiments.common.methods import (
    TEACHERS,
    distill_on_sequences,
    distill_on_windows,
    generate_sequences,
    generator_models,
    load_teacher,
    summarize_teacher,
    train_generators,
    train_on_labels,
)
from experiments.common.recipes import RECIPES, Recipe, smaller
from experiments.common.run import Run

SHOWN = 4
"""Sequences in the figure."""


@dataclasses.dataclass(frozen=True)
class DataFree(Recipe, Flags):
    """Flags of the data-free experiment."""

    recipe: Literal["beamkd", "paper"] = "paper"
    """Where settings of inversion and data-free distillation come from that are not given: ours, or as published."""
    teacher: str = "cnn_gru"
    """cnn_gru or gru, which are trained; or one that is not: a FILE.safetensors that a run left, a run's FOLDER/, whose
    teacher it is, or a FILE.npz with a published GRU network."""
    alpha: float = 0.6
    """Weight of the teacher against the labels in 'kd'."""
    teacher_fit: FitConfig = FitConfig(epochs=100, patience=5, clip=0)
    """Training of the teacher."""
    scratch_fit: FitConfig = FitConfig(epochs=100, patience=10, clip=0)
    """Training of the student on the real labels."""
    kd_fit: FitConfig = FitConfig(epochs=100, patience=10)
    """Training of the student by distillation on the real windows."""

    def __post_init__(self):
        Flags.__post_init__(self)
        Recipe.__post_init__(self)
        if self.teacher not in TEACHERS and Path(self.teacher).name == self.teacher and "." not in self.teacher:
            raise InputError(f"--teacher: expected {', '.join(TEACHERS)}, a FILE or a FOLDER/, found {self.teacher}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"--alpha: expected 0 to 1, found {self.alpha}")


QUICK = {
    "seeds": 1,
    "drives": 24,
    "sequences": 1000,
    "held_out": 200,
    "teacher_fit": 10,
    "scratch_fit": 60,
    "kd_fit": 60,
    "generator_fit": 200,
    "dfkd_fit": 60,
}
"""What `--quick` makes smaller: numbers, or the epochs of a fit; a smaller number that the user gave stays."""


def defaults(arguments: list[str]) -> DataFree:
    """The flags that are not given: those of the recipe that the command line names, or of ours."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", nargs="?")
    found = parser.parse_known_args(arguments)[0].recipe
    name = found if found in RECIPES else "beamkd"
    settings = {field.name: getattr(RECIPES[name], field.name) for field in dataclasses.fields(Recipe)}
    return DataFree(recipe=name, **settings)


def run(config: DataFree) -> None:
    """Run the experiment; leaves its folder with results and report."""
    config = smaller(config, QUICK) if config.quick else config
    folder = Run("datafree", config)
    world = open_world(folder, config)
    teacher = _teacher(folder, world, config)
    with folder.phase("metadata"):
        summaries = summarize_teacher(folder, world, teacher)
    generators = train_generators(folder, world, teacher, summaries, config)
    generated = generate_sequences(folder, world, generators, config)
    student = world.net(GruStudent(beams=world.beams), "student")
    soft = functools.partial(kl, temperature=config.temperature)
    nets = {
        "teacher": teacher,
        "scratch": train_on_labels(folder, world, student, config.scratch_fit, "scratch"),
        "kd": distill_on_windows(folder, world, teacher, student, config.kd_fit, config.alpha, soft),
        "dfkd": distill_on_sequences(folder, world, teacher, student, generated, config),
    }
    keep_networks(folder, config, world.models(nets) | generator_models(generators))
    _, frames, _ = world.scans
    with folder.phase("evaluation"):
        methods, test_drives, beams = evaluate_nets(folder, world, nets)
        zero_shot = {} if teacher.fit else {"zero_shot": _on_all_windows(folder, world, teacher)}
        _keep_for_figures(folder, world, beams, to_host(generated.sensors["lidar"][0, :SHOWN, :frames]))
    models = {"teacher": cost(world, teacher.module), "student": cost(world, student.module)}
    models["generator"] = cost_of(generators.module, (1, generators.module.noise))
    folder.finish(data=describe(config, world), models=models, methods=methods, test_drives=test_drives, **zero_shot)
    if is_primary():
        from beamkd.report import datafree  # here, for Matplotlib would delay the first step

        datafree.write(folder.folder)
        folder.say(datafree.console_table(folder.folder))
    folder.say(f"report and figures in {folder.folder}, {folder.seconds['total']:.0f} s in all")


def _teacher(folder: Run, world: World, config: DataFree) -> Net:
    if config.teacher not in TEACHERS:
        return agreed(lambda: load_teacher(world, Path(config.teacher)))
    net = world.net(TEACHERS[config.teacher](beams=world.beams), "teacher")
    return train_on_labels(folder, world, net, config.teacher_fit, "teacher")


def _on_all_windows(folder: Run, world: World, teacher: Net) -> dict[str, Array]:
    """Metrics of a loaded teacher on all windows, [1, J + 1]; which of them its owner trained it on is not known."""
    first = jax.tree.map(lambda leaf: leaf[:1], teacher.params)
    rows = jax.tree.map(lambda leaf: leaf[None], all_rows(len(world.windows)))
    return over_all_batches(scorer(folder, world, teacher.predict)(first, rows))


def _keep_for_figures(folder: Run, world: World, beams: dict[str, np.ndarray], generated: np.ndarray) -> None:
    """Arrays behind the figures, of the first seed: some sequences, and the longest drive of the test split."""
    windows, test = world.windows, jax.tree.map(lambda leaf: np.asarray(leaf[0]), world.split.test)
    rows = test.index[test.mask]
    of_row = np.asarray(windows.drive)[rows]
    numbers, lengths = np.unique(of_row, return_counts=True)
    longest = numbers[lengths.argmax()]
    there = np.flatnonzero(of_row == longest)
    spread = rows[np.linspace(0, len(rows) - 1, SHOWN + 2).astype(int)[1:-1]]
    arrays = {
        "real": windows.frames.sensors["lidar"][windows.observed[spread]],
        "generated": generated,
        "power": windows.frames.power[windows.predicted[rows[there], 0]],
        "drive": longest,
        **{f"beam_{name}": beam[0, there] for name, beam in beams.items()},
    }
    if is_primary():
        np.savez_compressed(
            folder.folder / "figures.npz", **{name: np.asarray(array) for name, array in arrays.items()}
        )


if __name__ == "__main__":
    main("datafree", DataFree, run, defaults=defaults)
