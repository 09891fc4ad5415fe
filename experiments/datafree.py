"""Data-free knowledge distillation for LiDAR-aided beam tracking (arXiv 2509.19092), end to end.

A teacher is trained, or loaded. Its owner hands over its weights and the mean and variance of its features. A generator
learns to make LiDAR sequences that look right to the teacher, and a small student learns from the teacher's answers on
these alone. Beside it stand the same student trained on the real labels ('scratch') and by distillation on the real
windows ('kd').
"""

import dataclasses
import functools
import zlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from beamkd import report
from beamkd.base import Array, Forward, InputError, Windows, expect_at_least
from beamkd.data import (
    Split,
    gather,
    lidar_batch,
    lidar_input,
    make_windows,
    select,
    split_drives,
    stack_splits,
)
from beamkd.distill import answers, distillation_task, held_out
from beamkd.inversion import STEPS, GeneratorLoss, generate, inversion_task, summarize
from beamkd.losses import kl, mse
from beamkd.models import (
    CnnGruTeacher,
    Generator,
    GruStudent,
    GruTeacher,
    count_weights,
    load_published,
    network,
)
from beamkd.training import FitConfig, FitState, all_rows, flops, map_members, measure, predict, supervised_task
from experiments.flags import Flags, load_drives, main
from experiments.run import Run

TEACHERS = {"cnn_gru": CnnGruTeacher, "gru": GruTeacher}

SHOWN = 4
"""Sequences in the figure."""


@dataclasses.dataclass(frozen=True)
class DataFree(Flags):
    """Flags of the data-free experiment."""

    teacher: str = "cnn_gru"
    """cnn_gru or gru, which are trained; or a FILE.npz with a published GRU network, which is not."""
    student_loss: Literal["kl", "mse"] = "kl"
    """What the data-free student learns by: softened beams, or the logits themselves."""
    temperature: float = 2.0
    """T of the KL divergence."""
    alpha: float = 0.6
    """Weight of the teacher against the labels in 'kd'."""
    sequences: int = 5000
    """Generated sequences that the data-free student trains on."""
    held_out: int = 1000
    """Generated sequences that choose its epoch."""
    generator_loss: GeneratorLoss = GeneratorLoss()
    """Weights of the terms of the generator's loss."""
    teacher_fit: FitConfig = FitConfig(epochs=100, patience=5, clip=0)
    """Training of the teacher."""
    scratch_fit: FitConfig = FitConfig(epochs=100, patience=10, clip=0)
    """Training of the student on the real labels."""
    kd_fit: FitConfig = FitConfig(epochs=100, patience=10)
    """Training of the student by distillation on the real windows."""
    generator_fit: FitConfig = STEPS
    """Training of the generator; an epoch is one step."""
    dfkd_fit: FitConfig = FitConfig(epochs=500, patience=10)
    """Training of the data-free student."""

    def __post_init__(self):
        super().__post_init__()
        if self.teacher not in TEACHERS and not self.teacher.endswith(".npz"):
            raise InputError(f"--teacher: expected cnn_gru, gru or a FILE.npz, found {self.teacher}")
        if not self.temperature > 0:
            raise InputError(f"--temperature: expected more than 0, found {self.temperature}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"--alpha: expected 0 to 1, found {self.alpha}")
        expect_at_least(self, sequences=1, held_out=1)


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


@dataclasses.dataclass(frozen=True)
class World:
    """What all phases share.

    Attributes:
      windows: W windows of real or simulated drives.
      split: rows of each part, [members, N].
      keys: [members], one a seed.
      drives: how many drives each part has.
    """

    windows: Windows
    split: Split
    keys: Array
    drives: dict[str, int]

    def draws(self, name: str) -> Array:
        """Keys for one purpose, [members]."""
        return jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(name.encode())))(self.keys)

    def init(self, module: nn.Module, name: str, shape: tuple[int, ...]) -> Any:
        """Initial weights of `module`, [members, ...]."""
        return jax.jit(jax.vmap(lambda key: module.init(key, jnp.zeros(shape))))(self.draws(name))


def run(config: DataFree) -> None:
    """Run the experiment; leaves its folder with results and report."""
    config = _quick(config) if config.quick else config
    folder = Run("datafree", config)
    world = _open_world(folder, config)
    student = GruStudent(beams=world.windows.frames.power.shape[-1])
    forward = network(student, lidar_input)
    teacher_module, teacher, teacher_params, fits = _teacher(folder, config, world)

    with folder.phase("metadata"):
        summaries = map_members(
            lambda params, windows, rows: summarize(teacher, params, windows, rows, gather), (0, None, 0)
        )(teacher_params, world.windows, world.split.train)
    generator, generator_fit = _invert(folder, config, world, teacher, teacher_params, summaries)
    start = world.init(student, "student", _scans(world, 1))
    fits |= _students_on_real_windows(folder, config, world, teacher, teacher_params, forward, start)
    generated, fits["dfkd"] = _data_free_student(
        folder, config, world, teacher, teacher_params, generator, generator_fit.params, forward, start
    )

    with folder.phase("evaluation"):
        methods, beams = _evaluate(world, teacher, teacher_params, forward, fits)
        zero_shot = _zero_shot(config, world, teacher, teacher_params)
        _keep_for_figures(folder, world, beams, generated)
    modules = {"teacher": teacher_module, "student": student}
    folder.finish(
        data=_describe(config, world),
        models={name: _cost(world, module) for name, module in modules.items()}
        | {"generator": _cost_of(generator, (1, generator.noise))},
        methods=methods,
        **zero_shot,
    )
    report.write(folder.folder)
    folder.say(report.console_table(folder.folder))
    folder.say(f"report and figures in {folder.folder}, {folder.seconds['total']:.0f} s in all")


def _quick(config: DataFree) -> DataFree:
    def smaller(name, limit):
        value = getattr(config, name)
        if isinstance(value, FitConfig):
            return dataclasses.replace(value, epochs=min(value.epochs, limit))
        return min(value, limit)

    return dataclasses.replace(config, **{name: smaller(name, limit) for name, limit in QUICK.items()})


def _open_world(folder: Run, config: DataFree) -> World:
    with folder.phase("data"):
        windows = make_windows(load_drives(config))
        keys = jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.seeds))
        splits = [split_drives(key, windows, config.split) for key in keys]
    parts = {name: getattr(splits[0], name) for name in ("train", "val", "test")}
    drives = {name: len(np.unique(windows.drive[rows.index])) for name, rows in parts.items()}
    frames = len(windows.frames.power)
    folder.say(f"{config.source}: {frames} frames, {sum(drives.values())} drives, {len(windows)} windows")
    return World(windows, stack_splits(splits), keys, drives)


def _scans(world: World, count: int) -> tuple[int, int, int]:
    """Shape of `count` windows of scans."""
    return count, world.windows.observed.shape[1], world.windows.frames.sensors["lidar"].shape[-1]


def _teacher(folder: Run, config: DataFree, world: World) -> tuple[nn.Module, Forward, Any, dict]:
    """The teacher as module and function, its weights [members, ...], and how its training went if it was trained."""
    if config.teacher not in TEACHERS:
        module, params = load_published(config.teacher)
        teacher = network(module, lidar_input)
        members = len(world.keys)
        return module, teacher, jax.tree.map(lambda leaf: jnp.stack([leaf] * members), params), {}
    module = TEACHERS[config.teacher](beams=world.windows.frames.power.shape[-1])
    teacher = network(module, lidar_input)
    params = world.init(module, "teacher", _scans(world, 1))
    task = supervised_task(teacher, gather, config.teacher_fit)
    fit = folder.train(
        "teacher",
        task,
        world.draws("teacher fit"),
        params,
        world.windows,
        None,
        world.split.train,
        world.split.val,
    )
    return module, teacher, fit.best, {"teacher": fit}


def _invert(folder, config, world, teacher, teacher_params, summaries):
    """The generator and how its training went."""
    _, frames, rays = _scans(world, 1)
    generator = Generator(frames=frames, rays=rays)
    params = world.init(generator, "generator", (1, generator.noise))
    task = inversion_task(teacher, generator, lidar_batch, config.generator_loss, config.generator_fit)
    rows = all_rows(config.generator_fit.batch_size)
    keys = world.draws("generator fit")
    return generator, folder.train("generator", task, keys, params, (teacher_params, summaries), 0, rows)


def _students_on_real_windows(folder, config, world, teacher, teacher_params, forward, start) -> dict:
    """The baselines: a student on the labels, and one that has a teacher besides."""
    train, val = world.split.train, world.split.val
    scratch = supervised_task(forward, gather, config.scratch_fit)
    fits = {"scratch": folder.train("scratch", scratch, world.draws("scratch"), start, world.windows, None, train, val)}
    targets = map_members(
        lambda params, windows: answers(teacher, params, windows, len(windows), gather),
        (0, None),
        folder.devices,
    )(teacher_params, world.windows)
    loss = functools.partial(kl, temperature=config.temperature)
    kd = distillation_task(forward, gather, config.kd_fit, loss, config.alpha)
    data = (world.windows, targets)
    fits["kd"] = folder.train("kd", kd, world.draws("kd"), start, data, (None, 0), train, val)
    return fits


def _data_free_student(folder, config, world, teacher, teacher_params, generator, generator_params, forward, start):
    """Generated sequences [members, N, L, R], and the student that learned from them and nothing else."""
    count = config.sequences + config.held_out
    with folder.phase("generation"):
        make = map_members(lambda key, params: lidar_batch(generate(key, generator, params, count)), (0, 0))
        examples = make(world.draws("sequences"), generator_params)
        targets = map_members(
            lambda params, examples: answers(teacher, params, examples, count, select), (0, 0), folder.devices
        )(teacher_params, examples)
    loss = mse if config.student_loss == "mse" else functools.partial(kl, temperature=config.temperature)
    task = distillation_task(forward, select, config.dfkd_fit, loss)
    train, val = held_out(count, config.held_out)
    fit = folder.train("dfkd", task, world.draws("dfkd"), start, (examples, targets), 0, train, val)
    return examples.sensors["lidar"], fit


def _evaluate(
    world: World, teacher: Forward, teacher_params: Any, student: Forward, fits: dict[str, FitState]
) -> tuple[dict, dict]:
    """On the test split, by network: metrics [members, J + 1], and beams predicted for current slots [members, N]."""
    scorers = {"teacher": _scorer(teacher), "student": _scorer(student)}
    methods, beams = {}, {}
    for name in ("teacher", *(name for name in fits if name != "teacher")):
        scorer = scorers["teacher" if name == "teacher" else "student"]
        params = teacher_params if name == "teacher" else fits[name].best
        methods[name], beams[name] = scorer(params, world.windows, world.split.test)
        if name in fits:
            methods[name] |= {"epochs": fits[name].epoch, "best_epoch": fits[name].best_epoch}
    return methods, beams


def _scorer(forward: Forward, rows_axis: int | None = 0):
    """A compiled function (params, windows, rows) -> metrics, beams predicted for current slots."""

    def score(params, windows, rows):
        logits, batch = predict(forward, params, windows, rows, gather)
        return measure(logits, batch), logits[:, 0].argmax(-1)

    return map_members(score, (0, None, rows_axis))


def _zero_shot(config: DataFree, world: World, teacher: Forward, params: Any) -> dict[str, Any]:
    """A loaded teacher on all windows: none of them was used to train it."""
    if config.teacher in TEACHERS:
        return {}
    first = jax.tree.map(lambda leaf: leaf[:1], params)
    return {"zero_shot": _scorer(teacher, None)(first, world.windows, all_rows(len(world.windows)))[0]}


def _cost(world: World, module: nn.Module) -> dict[str, float]:
    return _cost_of(module, _scans(world, 1), future=world.windows.predicted.shape[1] - 1)


def _cost_of(module: nn.Module, shape: tuple[int, ...], **options) -> dict[str, float]:
    """Weights of a network, and the operations that one window takes."""
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), inputs)
    operations = flops(lambda params, inputs: module.apply(params, inputs, **options), params, inputs)
    return {"parameters": count_weights(params), "flops_per_window": operations}


def _describe(config: DataFree, world: World) -> dict[str, Any]:
    parts = {name: getattr(world.split, name).mask.sum(-1) for name in world.drives}
    return {
        "source": config.source,
        "scenario": config.scenario if config.source == "deepsense" else None,
        "windows": {name: int(counts[0]) for name, counts in parts.items()},
        "windows_by_seed": parts,
        "drives": world.drives,
    }


def _keep_for_figures(folder: Run, world: World, beams: dict[str, Array], generated: Array) -> None:
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
        "generated": generated[0, :SHOWN],
        "power": windows.frames.power[windows.predicted[rows[there], 0]],
        "drive": longest,
        **{f"beam_{name}": beam[0, there] for name, beam in beams.items()},
    }
    np.savez_compressed(folder.folder / "figures.npz", **{name: np.asarray(array) for name, array in arrays.items()})


if __name__ == "__main__":
    main("datafree", DataFree, run)
