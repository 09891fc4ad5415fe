"""Data-free knowledge distillation for LiDAR-aided beam tracking (arXiv 2509.19092), end to end.

A teacher is trained, or loaded. Its owner hands over its weights and statistics of its layers. Sequences are simulated
along streets that look to the teacher as these say, or generators learn to make such, and a small student learns from
the teacher's answers on them alone.
Beside it stand the same student trained on the real labels ('scratch') and by distillation on the real windows ('kd').
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, Batch, InputError, Metadata, Model, named_keys
from beamkd.data import Dataset
from beamkd.data.inputs import taken_by_networks
from beamkd.distill import distill_on_windows
from beamkd.inversion import summarize_on_dataset
from beamkd.losses import kl
from beamkd.training import FitConfig, all_rows, is_primary, to_host
from beamkd.training.hosts import agreed
from experiments.common.dataset import (
    Trained,
    cost,
    cost_of,
    describe,
    evaluate_networks,
    keep_networks,
    longest_test_drive,
    open_dataset,
    over_all_batches,
    scorer,
)
from experiments.common.flags import Flags, main
from experiments.common.methods import (
    TEACHERS,
    by_number,
    load_teacher,
    origins_of,
    sequences_of,
    student_of,
    student_of_sequences,
    teacher_of,
    train_on_labels,
    trained,
    untrained,
)
from experiments.common.recipes import RECIPES, Recipe, affordable, smaller
from experiments.common.run import Run
from experiments.common.watch import keep_drives

SHOWN = 4
"""Sequences in the figure."""


@dataclasses.dataclass(frozen=True)
class DataFree(Recipe, Flags):
    """Flags of the data-free experiment."""

    recipe: Literal["beamkd", "scenes", "paper", "prior"] = "paper"
    """Where settings of data-free distillation come from that are not given: ours; a generator of scenes; as published;
    or ours with the teacher's weights alone, of streets of all kinds."""
    teacher: str = "cnn_gru"
    """cnn_gru or gru, which are trained, of other sensors than LiDAR a network like the first; or one that is not: a
    FILE.safetensors that a run left, a run's FOLDER/, whose teacher it is, or a FILE.npz with a published network."""
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
    "search": 100,
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
    config = affordable(config, config.sensors)
    run = Run("datafree", config)
    dataset, keys = open_dataset(run, config)
    teacher = _teacher(run, keys, dataset, config)
    summaries = functools.partial(_summaries, run, dataset, teacher.model)
    origin = origins_of(run, keys, dataset, teacher.model, summaries, config)
    sequences = sequences_of(run, keys, dataset, origin, config)
    student = untrained(keys, dataset, student_of(dataset), "student")
    networks = {
        "teacher": teacher,
        "scratch": train_on_labels(run, keys, dataset, student, config.scratch_fit, "scratch"),
        "kd": _distilled_on_windows(run, keys, dataset, teacher.model, student, config),
        "dfkd": student_of_sequences(run, keys, dataset, teacher.model, student, sequences, config),
    }
    generator = origin if isinstance(origin, Model) else None
    generators = by_number(generator) if generator else {}
    models = {name: network.model for name, network in networks.items()}
    keep_networks(run, config, models | generators)
    with run.phase("evaluation"):
        methods, test_drives, beams = evaluate_networks(run, dataset, networks)
        zero_shot = {} if teacher.fit else {"zero_shot": _on_all_windows(run, dataset, teacher.model)}
        _keep_for_figures(run, dataset, beams, sequences)
        keep_drives(run, dataset, models)
    costs = {"teacher": cost(dataset, teacher.model.module), "student": cost(dataset, student.module)}
    costs |= {"generator": cost_of(generator)} if generator else {}
    streets = {} if generator else {"streets": [dataclasses.asdict(family) for family in origin]}
    found = {"methods": methods, "test_drives": test_drives, **zero_shot, **streets}
    run.finish(data=describe(config, dataset), models=costs, **found)
    if is_primary():
        from beamkd.report import datafree  # here, for Matplotlib would delay the first step

        datafree.write(run.folder)
        run.say(datafree.console_table(run.folder))
    run.say(f"report and figures in {run.folder}, {run.seconds['total']:.0f} s in all")


def _teacher(run: Run, keys: Array, dataset: Dataset, config: DataFree) -> Trained:
    if config.teacher not in TEACHERS:
        return Trained(agreed(lambda: load_teacher(dataset, config.seeds, Path(config.teacher))))
    model = untrained(keys, dataset, teacher_of(dataset, config.teacher), "teacher")
    return train_on_labels(run, keys, dataset, model, config.teacher_fit, "teacher")


def _summaries(run: Run, dataset: Dataset, teacher: Model) -> Metadata:
    """What the owner hands over with the teacher."""
    with run.phase("metadata"):
        return summarize_on_dataset(run, teacher, dataset)


def _distilled_on_windows(
    run: Run, keys: Array, dataset: Dataset, teacher: Model, student: Model, config: DataFree
) -> Trained:
    loss = functools.partial(kl, temperature=config.temperature)
    options = (config.kd_fit, loss, config.alpha)
    return trained(student, distill_on_windows(run, "kd", named_keys(keys, "kd"), student, teacher, dataset, *options))


def _on_all_windows(run: Run, dataset: Dataset, teacher: Model) -> dict[str, Array]:
    """Metrics of a loaded teacher on all windows, [1, J + 1]; which of them its owner trained it on is not known."""
    first = jax.tree.map(lambda leaf: leaf[:1], teacher.params)
    rows = jax.tree.map(lambda leaf: leaf[None], all_rows(len(dataset.windows)))
    return over_all_batches(scorer(run, dataset, teacher)(first, rows))


def _keep_for_figures(run: Run, dataset: Dataset, beams: dict[str, np.ndarray], sequences: Batch) -> None:
    """Arrays behind the figures, of the first seed: some sequences, and the longest drive of the test split."""
    name, windows = dataset.sensors[0], dataset.windows
    rows, shown, longest = longest_test_drive(dataset)
    spread = rows[np.linspace(0, len(rows) - 1, SHOWN + 2).astype(int)[1:-1]]
    arrays = {
        "sensor": name,
        "real": _shown(name, windows.frames.sensors[name][windows.observed[spread]]),
        "generated": _shown(name, to_host(sequences.sensors[name][0, :SHOWN, : dataset.observed])),
        "power": windows.frames.power[windows.predicted[rows[shown], 0]],
        "drive": longest,
        **{f"beam_{method}": beam[0, shown] for method, beam in beams.items()},
    }
    if is_primary():
        np.savez_compressed(run.folder / "figures.npz", **{name: np.asarray(array) for name, array in arrays.items()})


def _shown(name: str, frames: Array) -> Array:
    """Frames as the figure has them: scans in metres, others as networks take them."""
    return frames if name == "lidar" else taken_by_networks(name, jnp.asarray(frames))


if __name__ == "__main__":
    main("datafree", DataFree, run, defaults=defaults)
