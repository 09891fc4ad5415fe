"""Data-free knowledge distillation for LiDAR-aided beam tracking (arXiv 2509.19092), end to end.

A teacher is trained, or loaded. Its owner hands over its weights and the mean and variance of its features. A generator
learns to make LiDAR sequences that look right to the teacher, and a small student learns from the teacher's answers on
these alone. Beside it stand the same student trained on the real labels ('scratch') and by distillation on the real
windows ('kd').
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from beamkd.base import Array, Batch, Forward, InputError, Metadata, Rows, Windows, expect_at_least
from beamkd.data import (
    Split,
    gather,
    lidar_batch,
    lidar_input,
    make_windows,
    on_host,
    select,
    split_drives,
    stack_splits,
)
from beamkd.distill import answers, distillation_task, held_out
from beamkd.inversion import STEPS, GeneratorLoss, feature_moments, generate, inversion_task, merge_moments
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
from beamkd.training import (
    FitConfig,
    FitState,
    Stream,
    all_rows,
    fetch,
    flops,
    is_first,
    map_batches,
    mean_scores,
    score_batch,
    supervised_task,
)
from beamkd.training.evaluate import EVALUATION_BATCH
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
class Net:
    """A network with its weights for every seed.

    Attributes:
      module: the Flax module.
      forward: it as a function of batches.
      predict: the same, with the logits of the predicted slots alone.
      params: its weights, [members, ...].
      fit: how its training went; None if it was loaded.
    """

    module: nn.Module
    forward: Forward
    predict: Forward
    params: Any
    fit: FitState | None = None

    def trained(self, fit: FitState) -> "Net":
        """The same network with the weights that training chose."""
        return dataclasses.replace(self, params=fit.best, fit=fit)


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

    @property
    def data(self) -> Windows | Stream:
        """The windows, or a stream of them where their frames do not live on the device."""
        return Stream(functools.partial(gather, self.windows)) if on_host(self.windows) else self.windows

    @property
    def take(self) -> Callable[[Any, Rows], Batch]:
        """How batches are taken from `data`, or from what was read of the stream."""
        return select if on_host(self.windows) else gather

    @property
    def scans(self) -> tuple[int, int, int]:
        """Shape of one window's scans, [1, L, R]."""
        return 1, self.windows.observed.shape[1], self.windows.frames.sensors["lidar"].shape[-1]

    @property
    def beams(self) -> int:
        """M."""
        return self.windows.frames.power.shape[-1]

    def draws(self, name: str) -> Array:
        """Keys for one purpose, [members]."""
        return jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(name.encode())))(self.keys)

    def init(self, module: nn.Module, name: str, shape: tuple[int, ...]) -> Any:
        """Initial weights of `module` for inputs of a shape, [members, ...]."""
        return jax.jit(jax.vmap(lambda key: module.init(key, jnp.zeros(shape))))(self.draws(name))

    def net(self, module: nn.Module, name: str) -> Net:
        """A network of scans with its initial weights, for which one frame will do."""
        return _net(module, self.init(module, name, (1, 1, self.scans[-1])))


def _net(module: nn.Module, params: Any) -> Net:
    return Net(module, network(module, lidar_input), network(module, lidar_input, predicted_only=True), params)


def run(config: DataFree) -> None:
    """Run the experiment; leaves its folder with results and report."""
    config = _quick(config) if config.quick else config
    folder = Run("datafree", config)
    world = _open_world(folder, config)
    teacher = _load_teacher(config, world) if config.teacher not in TEACHERS else _train_teacher(folder, config, world)
    with folder.phase("metadata"):
        summaries = _summarize(folder, world, teacher)
    generator, generator_params = _train_generator(folder, config, world, teacher, summaries)
    student = world.net(GruStudent(beams=world.beams), "student")
    nets = {
        "teacher": teacher,
        "scratch": _train_on_labels(folder, config, world, student),
        "kd": _distill_on_real_windows(folder, config, world, teacher, student),
    }
    with folder.phase("generation"):
        generated = _generate(folder, config, world, generator, generator_params)
    nets["dfkd"] = _distill_on_generated_windows(folder, config, world, teacher, student, generated)

    with folder.phase("evaluation"):
        methods, beams = _evaluate(folder, world, nets)
        zero_shot = {} if teacher.fit else {"zero_shot": _on_all_windows(folder, world, teacher)}
        _keep_for_figures(folder, world, beams, fetch(generated.sensors["lidar"][0, :SHOWN]))
    models = {"teacher": _cost(world, teacher.module), "student": _cost(world, student.module)}
    models["generator"] = _cost_of(generator, (1, generator.noise))
    folder.finish(data=_describe(config, world), models=models, methods=methods, **zero_shot)
    if is_first():
        from beamkd import report  # here, for Matplotlib would delay the first step

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
        windows = make_windows(load_drives(config, folder.drives))
        keys = jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.seeds))
        splits = [split_drives(key, windows, config.split) for key in keys]
    parts = {name: getattr(splits[0], name) for name in ("train", "val", "test")}
    drives = {name: len(np.unique(np.asarray(windows.drive)[rows.index])) for name, rows in parts.items()}
    frames = len(windows.frames.power)
    place = f", streamed from {folder.drives}" if on_host(windows) else ""
    folder.say(f"{config.source}: {frames} frames, {sum(drives.values())} drives, {len(windows)} windows{place}")
    return World(windows, stack_splits(splits), keys, drives)


def _load_teacher(config: DataFree, world: World) -> Net:
    """A published network, the same for every seed."""
    module, params = load_published(config.teacher)
    rays, beams = params["params"]["Linear_0"]["kernel"].shape[0], module.beams
    if (rays, beams) != (world.scans[-1], world.beams):
        expected = f"{world.scans[-1]} rays and {world.beams} beams"
        raise InputError(f"{config.teacher}: expected a network for {expected}, found {rays} and {beams}")
    everywhere = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(world.keys)), params)
    return _net(module, everywhere)


def _train_teacher(folder: Run, config: DataFree, world: World) -> Net:
    net = world.net(TEACHERS[config.teacher](beams=world.beams), "teacher")
    task, split = supervised_task(net.predict, world.take, config.teacher_fit), world.split
    keys = world.draws("teacher fit")
    return net.trained(folder.train("teacher", task, keys, net.params, world.data, None, split.train, split.val))


def _summarize(folder: Run, world: World, teacher: Net) -> Metadata:
    """What the owner of the training windows hands over with the teacher, [members, D]."""
    moments = _over_batches(folder, world, functools.partial(feature_moments, teacher.forward))
    return jax.vmap(merge_moments)(fetch(moments(teacher.params, world.split.train)))


def _over_batches(folder: Run, world: World, function: Callable[[Any, Batch], Any]) -> Callable[[Any, Rows], Any]:
    """Compile function(params, batch) into one over many rows, as `beamkd.training.map_batches` says."""
    return map_batches(function, world.data, world.take, EVALUATION_BATCH, folder.map)


def _train_generator(
    folder: Run, config: DataFree, world: World, teacher: Net, summaries: Metadata
) -> tuple[Generator, Any]:
    """A generator a seed: the module and its weights, [members, ...]."""
    _, frames, rays = world.scans
    generator = Generator(frames=frames, rays=rays)
    params = world.init(generator, "generator", (1, generator.noise))
    task = inversion_task(teacher.forward, generator, lidar_batch, config.generator_loss, config.generator_fit)
    rows, keys = all_rows(config.generator_fit.batch_size), world.draws("generator fit")
    return generator, folder.train("generator", task, keys, params, (teacher.params, summaries), 0, rows).params


def _train_on_labels(folder: Run, config: DataFree, world: World, student: Net) -> Net:
    task, split = supervised_task(student.predict, world.take, config.scratch_fit), world.split
    keys = world.draws("scratch")
    fit = folder.train("scratch", task, keys, student.params, world.data, None, split.train, split.val)
    return student.trained(fit)


def _distill_on_real_windows(folder: Run, config: DataFree, world: World, teacher: Net, student: Net) -> Net:
    loss = functools.partial(kl, temperature=config.temperature)
    task, split = distillation_task(student.forward, world.take, config.kd_fit, loss, config.alpha), world.split
    data, keys = _with_answers(folder, world, teacher), world.draws("kd")
    return student.trained(folder.train("kd", task, keys, student.params, data, (None, 0), split.train, split.val))


def _with_answers(folder: Run, world: World, teacher: Net) -> tuple[Windows, Array] | Stream:
    """The windows and the teacher's answers on them; of a stream, which are too many to keep, as they pass."""

    def teach(params, data, count):
        return answers(teacher.forward, params, data, count, world.take)

    def prepare(params, batch):
        return batch, teach(params, batch, len(batch.mask))

    if on_host(world.windows):
        return dataclasses.replace(world.data, prepare=prepare, context=teacher.params)
    teach_all = folder.map(functools.partial(teach, count=len(world.windows)), (0, None))
    return world.windows, teach_all(teacher.params, world.windows)


def _generate(folder: Run, config: DataFree, world: World, generator: Generator, params: Any) -> Batch:
    """Generated windows, [members, N, ...]: those to train on, then those held out."""
    count = config.sequences + config.held_out

    def make(key, params):
        return lidar_batch(generate(key, generator, params, count))

    return folder.map(make, (0, 0))(world.draws("sequences"), params)


def _distill_on_generated_windows(
    folder: Run, config: DataFree, world: World, teacher: Net, student: Net, generated: Batch
) -> Net:
    """The data-free student: here the world gives keys and nothing else."""
    count = config.sequences + config.held_out

    def teach(params, examples):
        return answers(teacher.forward, params, examples, count, select)

    targets = folder.map(teach, (0, 0))(teacher.params, generated)
    loss = mse if config.student_loss == "mse" else functools.partial(kl, temperature=config.temperature)
    task = distillation_task(student.forward, select, config.dfkd_fit, loss)
    train, val = held_out(count, config.held_out)
    return student.trained(
        folder.train("dfkd", task, world.draws("dfkd"), student.params, (generated, targets), 0, train, val)
    )


def _evaluate(folder: Run, world: World, nets: dict[str, Net]) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """On the test split, by network: metrics [members, J + 1], and beams predicted for current slots [members, N]."""
    scorers = {predict: _scorer(folder, world, predict) for predict in {net.predict for net in nets.values()}}
    methods, beams = {}, {}
    for name, net in nets.items():
        methods[name], beams[name] = scorers[net.predict](net.params, world.split.test)
        if net.fit:
            methods[name] |= {"epochs": net.fit.epoch, "best_epoch": net.fit.best_epoch}
    return methods, beams


def _scorer(folder: Run, world: World, predict: Forward) -> Callable[[Any, Rows], tuple[dict[str, Array], np.ndarray]]:
    """A function (params, rows) -> metrics, beams predicted for current slots, compiled."""
    score = _over_batches(folder, world, functools.partial(score_batch, predict))

    def run(params, rows):
        scores = fetch(score(params, rows))
        return jax.vmap(mean_scores)(scores), scores.beams.reshape(len(scores.beams), -1)

    return run


def _on_all_windows(folder: Run, world: World, teacher: Net) -> dict[str, Array]:
    """Metrics of a loaded teacher on all windows, none of which was used to train it, [1, J + 1]."""
    first = jax.tree.map(lambda leaf: leaf[:1], teacher.params)
    rows = jax.tree.map(lambda leaf: leaf[None], all_rows(len(world.windows)))
    return _scorer(folder, world, teacher.predict)(first, rows)[0]


def _cost(world: World, module: nn.Module) -> dict[str, float]:
    return _cost_of(module, world.scans, future=world.windows.predicted.shape[1] - 1)


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
        "streamed": on_host(world.windows),
    }


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
    if is_first():
        np.savez_compressed(
            folder.folder / "figures.npz", **{name: np.asarray(array) for name, array in arrays.items()}
        )


if __name__ == "__main__":
    main("datafree", DataFree, run)
