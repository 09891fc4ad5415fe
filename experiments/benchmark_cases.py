"""What the benchmark times: each case is a function of a `Bench` that yields rows for results.json, one a point.

Inputs are random numbers, for none of this takes longer or shorter with other ones.
"""

import dataclasses
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from beamkd.base import FUTURE, OBSERVED, Array, Drives, Metadata, Rows, Windows
from beamkd.data import gather, lidar_batch, lidar_input, make_windows, read_deepsense, select, write_deepsense
from beamkd.distill import distillation_task, held_out
from beamkd.inversion import inversion_task
from beamkd.models import CnnGruTeacher, Generator, GruStudent, GruTeacher, network
from beamkd.sim import (
    Building,
    Street,
    beam_powers,
    channel,
    drive_traffic,
    hardware_codebook,
    lidar_scan,
    simulate,
    simulate_drive,
    trace_paths,
)
from beamkd.training import FitConfig, Task, advance, all_rows, evaluate, map_members, start, supervised_task
from beamkd.training.evaluate import EVALUATION_BATCH
from experiments import datafree
from experiments.flags import SIMULATED_DRIVES
from experiments.timing import MOST_ROUNDS, Cost, Program, compile_program, cost_of, repeated, sample

Row = dict[str, Any]

STUDENT, TEACHER_GRU, TEACHER_CNN_GRU, GENERATOR = GruStudent(), GruTeacher(), CnnGruTeacher(), Generator()
NETWORKS = {"student": STUDENT, "teacher_gru": TEACHER_GRU, "teacher_cnn_gru": TEACHER_CNN_GRU}

RAYS, BEAMS = 216, 64

WINDOWS, TRAINED_ON, VALIDATED_ON = 3462, 2077, 519
"""Windows of Scenario 8, and the 60 % and 15 % of them that a random split trains on and validates on."""

SEQUENCES, HELD_OUT = 5000, 1000
"""Generated windows that the data-free student trains on and validates on."""

MOST_STEPS, LEAST_STEPS, WINDOWS_A_CALL = 40, 4, 10_240
"""Steps of the epoch that a training step is timed in: about as many as a real one has, fewer where they are large."""

STREET = Street(others=3, buildings=(Building(18.0), Building(-6.0)))
"""Four boxes, the served car among them, and two walls: 15 paths."""

CHUNK = 64
"""Drives that are simulated at once."""

COUNTED = 64
"""Windows of the largest batch whose cost is counted: the frames of larger ones may be encoded in a loop, of which XLA
counts one round."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One way to run a case.

    Attributes:
      batch: windows a step, or drives or frames at once.
      members: of `map_members`, each with weights and random numbers of its own.
      devices: that these are spread over.
      dtype: that networks compute in.
    """

    batch: int
    members: int = 1
    devices: int = 1
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Bench:
    """How to time.

    Attributes:
      points: to time training steps and inference at.
      dtypes: that networks compute in.
      repeats: samples a point.
      rates: FLOP/s of a large matrix product on one device, by dtype.
      seed: of simulated drives.
      quick: fewer drives, and the small pipeline.
      folder: a DeepSense folder to read; one is simulated and written if None.
      scenario: its number.
      pipeline_seeds: numbers of seeds to run the pipeline for.
    """

    points: tuple[Point, ...]
    dtypes: tuple[str, ...]
    repeats: int
    rates: dict[str, float]
    seed: int = 0
    quick: bool = False
    folder: Path | None = None
    scenario: int = 8
    pipeline_seeds: tuple[int, ...] = (1, 20)

    @property
    def alone(self) -> list[Point]:
        """One member on one device, in each dtype."""
        return [Point(self.points[0].batch, dtype=dtype) for dtype in self.dtypes]

    def row(
        self,
        point: Point,
        seconds: Array,
        items: float,
        compile_seconds: float | None = None,
        cost: Cost | None = None,
        peak_bytes: int | None = None,
        **more: Any,
    ) -> Row:
        """A row of results.json.

        Args:
          point: how it was run.
          seconds: [samples] that all members took.
          items: how many they did in that time.
          compile_seconds: of tracing and compilation.
          cost: of what was run, all members.
          peak_bytes: of the program, on each device.
          **more: further entries.
        """
        low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
        rate = cost.flops / median if cost else None
        return {
            **dataclasses.asdict(point),
            "milliseconds": 1e3 * median,
            "quartiles": [1e3 * low, 1e3 * high],
            "samples": len(seconds),
            "items_per_second": items / median,
            "compile_seconds": compile_seconds,
            "flops": cost.flops if cost else None,
            "bytes": cost.bytes if cost else None,
            "flops_per_second": rate,
            "fraction_of_matmul": rate / (self.rates[point.dtype] * point.devices) if cost else None,
            "peak_bytes": peak_bytes,
            **more,
        }


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What is trained in a case.

    Attributes:
      task: what and how.
      shapes: of one member's weights.
      data: what `task.take` takes.
      train: the rows of an epoch.
      val: the rows to validate on, or None.
    """

    task: Task
    shapes: Any
    data: Any
    train: Rows
    val: Rows | None = None


def _lesson(case: str, batch: int, dtype: str, count: int, last: int = 0) -> Lesson:
    """The lesson of a case over `count` windows, of which the `last` ones are for validation."""
    train, val = held_out(count, last) if last else (all_rows(count), None)
    config = FitConfig(epochs=MOST_ROUNDS, batch_size=batch, patience=0)
    if case == "generator":
        # Members share the teacher, as fifty generators of one teacher do. An epoch of theirs is one step.
        task = inversion_task(network(TEACHER_CNN_GRU, lidar_input, dtype=dtype), GENERATOR, lidar_batch, config=config)
        width = TEACHER_CNN_GRU.hidden
        teacher = jax.tree.map(lambda leaf: leaf[0], _weights(_shapes(TEACHER_CNN_GRU), 1))
        data = (teacher, Metadata(jnp.zeros(width), jnp.ones(width)))
        return Lesson(task, _shapes(GENERATOR, GENERATOR.noise), data, all_rows(batch))
    if case == "student_data_free":
        # The teacher's answers are there, for they are computed once, before the first epoch.
        task = distillation_task(network(STUDENT, lidar_input, dtype=dtype), select, config)
        answers = jax.random.normal(jax.random.key(0), (count, OBSERVED + FUTURE, BEAMS))
        return Lesson(task, _shapes(STUDENT), (lidar_batch(_scans(count)), answers), train, val)
    module = NETWORKS[case.removesuffix("_supervised")]
    predict = network(module, lidar_input, dtype=dtype, predicted_only=True)
    task = supervised_task(predict, gather, dataclasses.replace(config, clip=0))
    return Lesson(task, _shapes(module), _windows(count), train, val)


def _shapes(module: nn.Module, *inputs: int) -> Any:
    """Shapes of a module's weights, for inputs [1, *inputs]; scans if not given."""
    example = jnp.zeros((1, *(inputs or (OBSERVED, RAYS))))
    return jax.eval_shape(module.init, jax.random.key(0), example)


def _weights(shapes: Any, members: int) -> Any:
    """Weights of that many members, [members, ...]; from NumPy, which needs no compilation."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.1, (members, *leaf.shape)), leaf.dtype), shapes)


def _scans(count: int) -> Array:
    return jax.random.uniform(jax.random.key(0), (count, OBSERVED, RAYS))


def _windows(count: int) -> Windows:
    """As many windows over one long drive of random frames."""
    frames = count + OBSERVED + FUTURE - 1
    number = jnp.arange(frames)
    scan_key, power_key = jax.random.split(jax.random.key(0))
    drives = Drives(
        sensors={"lidar": 10 * jax.random.uniform(scan_key, (frames, RAYS))},
        power=jax.random.uniform(power_key, (frames, BEAMS)),
        position=jnp.zeros((frames, 2)),
        drive=jnp.ones(frames, jnp.int32),
        slot=number,
    )
    first = number[:count, None]
    current = first + OBSERVED - 1
    return Windows(drives, first + jnp.arange(OBSERVED), current + jnp.arange(FUTURE + 1), drives.drive[:count])


def _train(case: str, bench: Bench) -> Iterator[Row]:
    """One training step at every point: an epoch's time over its steps."""
    least = 2 if case == "generator" else 1  # the variance of its teacher's features takes two windows
    points = (dataclasses.replace(point, batch=max(least, point.batch)) for point in bench.points)
    for point in dict.fromkeys(points):
        fitting = WINDOWS_A_CALL // (point.batch * point.members)
        steps = 1 if case == "generator" else max(LEAST_STEPS, min(fitting, MOST_STEPS))
        lesson = _lesson(case, point.batch, point.dtype, steps * point.batch)
        program, seconds = _time_epochs(bench, point, lesson)
        cost = step_cost(case, point.batch, point.dtype).times(point.members)
        items = point.members * point.batch
        yield bench.row(point, seconds / steps, items, program.compile_seconds, cost, program.peak_bytes)


def _epoch(case: str, count: int, last: int, bench: Bench) -> Iterator[Row]:
    """One epoch of one member, validation included."""
    for point in bench.alone:
        lesson = _lesson(case, point.batch, point.dtype, count, last)
        program, seconds = _time_epochs(bench, point, lesson)
        steps = -(-(count - last) // point.batch)
        sweep = 4 * point.batch  # validation takes batches four times as large

        def validate(params, data, rows, task=lesson.task):
            return task.loss(params, task.take(data, rows), None)[0]

        def validation(rows, validate=validate, lesson=lesson):
            return cost_of(validate, lesson.shapes, lesson.data, all_rows(rows))

        cost = step_cost(case, point.batch, point.dtype).times(steps)
        cost = cost.plus(_in_proportion(validation, min(sweep, last)).times(-(-last // sweep)))
        yield bench.row(point, seconds, count - last, program.compile_seconds, cost, program.peak_bytes)


def _time_epochs(bench: Bench, point: Point, lesson: Lesson) -> tuple[Program, np.ndarray]:
    """Seconds that an epoch of all members takes, [samples]."""
    params = _weights(lesson.shapes, point.members)
    begin = jax.vmap(functools.partial(start, lesson.task), (0, None, None))
    state = jax.jit(begin)(params, lesson.data, lesson.train)
    keys = jax.random.split(jax.random.key(2), point.members)
    train = map_members(functools.partial(advance, lesson.task), (0, 0, None, None, None, None), point.devices)
    program = compile_program(train, state, keys, lesson.data, lesson.train, lesson.val, jnp.int32(1))
    seconds = sample(lambda epochs: program.call(*program.args[:-1], jnp.int32(epochs)), bench.repeats)
    return program, seconds


def _in_proportion(cost: Callable[[int], Cost], batch: int) -> Cost:
    """cost(batch); of a large batch from two smaller ones, as a part that all have and a part of each window."""
    if batch <= COUNTED:
        return cost(batch)
    whole, half = cost(COUNTED), cost(COUNTED // 2)
    each = whole.plus(half.times(-1)).times(2 / COUNTED)
    return whole.plus(each.times(batch - COUNTED))


@functools.cache
def step_cost(case: str, batch: int, dtype: str) -> Cost:
    """Of one training step of one member: an epoch of a single batch, so that no loop is counted short."""
    if batch > COUNTED:
        return _in_proportion(lambda fewer: step_cost(case, fewer, dtype), batch)
    lesson = _lesson(case, batch, dtype, batch)
    key, data, rows = jax.random.key(0), lesson.data, lesson.train
    state = jax.eval_shape(lambda params: start(lesson.task, params, data, rows), lesson.shapes)
    return cost_of(functools.partial(advance, lesson.task), state, key, data, rows, None, jnp.int32(1))


def _infer(module: nn.Module, bench: Bench) -> Iterator[Row]:
    """Scans from the host's memory to the predicted slots' logits there, dispatch included, at every point."""
    for point in bench.points:
        predict, scans = _predictor(module, point.dtype), np.asarray(_scans(point.batch))
        infer = map_members(predict, (0, None), point.devices)
        program = compile_program(infer, _weights(_shapes(module), point.members), scans)
        answer = functools.partial(_fetch, program.call, program.args[0], scans)
        seconds = sample(repeated(answer), bench.repeats)
        cost = _in_proportion(
            lambda count, predict=predict: cost_of(predict, _shapes(module), _scans(count)), point.batch
        )
        cost = cost.times(point.members)  # a loop over members would count once
        items = point.members * point.batch
        yield bench.row(point, seconds, items, program.compile_seconds, cost, program.peak_bytes)


def _predictor(module: nn.Module, dtype: str) -> Callable[[Any, Array], Array]:
    forward = network(module, lidar_input, dtype=dtype, predicted_only=True)

    def predict(params, scans):
        return forward(params, lidar_batch(scans)).logits

    return predict


def _fetch(function: Callable, *args: Any) -> np.ndarray:
    return np.asarray(function(*args))


def _evaluate(module: nn.Module, bench: Bench) -> Iterator[Row]:
    """All metrics over Scenario 8's number of windows, one member."""
    for point in bench.alone:
        forward = network(module, lidar_input, dtype=point.dtype, predicted_only=True)
        score = functools.partial(evaluate, forward, take=gather)
        params = jax.tree.map(lambda leaf: leaf[0], _weights(_shapes(module), 1))
        program = compile_program(score, params, _windows(WINDOWS), all_rows(WINDOWS))
        batches = -(-WINDOWS // EVALUATION_BATCH)

        def scoring(rows, score=score, params=params):
            return cost_of(score, params, _windows(WINDOWS), all_rows(rows))

        cost = _in_proportion(scoring, EVALUATION_BATCH).times(batches)
        seconds = sample(repeated(functools.partial(program.call, *program.args)), bench.repeats)
        point = dataclasses.replace(point, batch=EVALUATION_BATCH)
        yield bench.row(point, seconds, WINDOWS, program.compile_seconds, cost, program.peak_bytes)


def _simulate(bench: Bench) -> Iterator[Row]:
    """The whole simulator, random traffic to arrays in memory."""
    row = _time_simulation(bench, STREET, CHUNK)
    program = compile_program(
        jax.vmap(lambda key: simulate_drive(key, STREET)), jax.random.split(jax.random.key(0), CHUNK)
    )
    rate = program.cost.flops / row["milliseconds"] * 1e3
    row |= {"flops": program.cost.flops, "bytes": program.cost.bytes, "flops_per_second": rate}
    yield row | {"fraction_of_matmul": rate / bench.rates["float32"], "peak_bytes": program.peak_bytes}


def _simulate_growth(bench: Bench) -> Iterator[Row]:
    """The whole simulator with more walls, boxes, antennas and drives, one at a time."""
    few = bench.quick
    for drives in (CHUNK, 2 * CHUNK) if few else (CHUNK, 2 * CHUNK, 4 * CHUNK, 8 * CHUNK):
        yield _time_simulation(bench, STREET, drives)
    for walls in (8,) if few else (0, 4, 8):
        fronts = tuple(Building(18.0 + 2 * wall) for wall in range(walls))
        yield _time_simulation(bench, dataclasses.replace(STREET, buildings=fronts), CHUNK)
    for others in (7,) if few else (0, 7, 15):
        yield _time_simulation(bench, dataclasses.replace(STREET, others=others), CHUNK)
    for antennas in (64,) if few else (32, 64, 128):
        yield _time_simulation(bench, dataclasses.replace(STREET, antennas=antennas), CHUNK)


def _time_simulation(bench: Bench, street: Street, drives: int) -> Row:
    began = time.perf_counter()
    made = simulate(jax.random.key(bench.seed), street, drives)
    first = time.perf_counter() - began
    seconds = sample(repeated(lambda: simulate(jax.random.key(bench.seed), street, drives)), bench.repeats)
    walls, boxes = len(street.buildings), 1 + street.others
    more = {
        "drives": drives,
        "walls": walls,
        "boxes": boxes,
        "antennas": street.antennas,
        "paths": 1 + walls + 4 * street.others,
        "drives_per_second": drives / np.median(seconds),
        "windows_per_second": len(make_windows(made)) / np.median(seconds),
    }
    # What the first call took more than the later ones; next to nothing where the street was compiled before.
    compiling = max(0.0, first - float(np.median(seconds)))
    return bench.row(Point(batch=drives), seconds, len(made.drive), compiling, **more)


def _simulate_part(part: str, bench: Bench) -> Iterator[Row]:
    """Channel, beam powers or LiDAR alone. Padding is computed too, but not counted as frames."""
    key, street = jax.random.key(bench.seed), STREET
    traffic = jax.jit(jax.vmap(lambda key: drive_traffic(key, street)))(jax.random.split(key, CHUNK))

    def channels(traffic):
        boxes = jax.tree.map(lambda leaf: leaf[:, 1:], traffic.vehicles)
        trace = jax.vmap(trace_paths, (0, 0, None, 0, None))
        paths = trace(traffic.antenna, boxes, street.walls, traffic.velocity, traffic.other_velocity)
        return channel(paths, street.antennas)

    def scans(key, vehicles):
        keys = jax.random.split(key, street.max_frames)
        return jax.vmap(lambda key, boxes: lidar_scan(key, boxes, street.walls))(keys, vehicles)

    if part == "channel":
        program = compile_program(jax.vmap(channels), traffic)
    elif part == "beams":
        program = compile_program(beam_powers, jax.jit(jax.vmap(channels))(traffic), hardware_codebook(street))
    else:
        program = compile_program(jax.vmap(scans), jax.random.split(key, CHUNK), traffic.vehicles)
    seconds = sample(repeated(lambda: program.call(*program.args)), bench.repeats)
    frames = int(traffic.frames.sum())
    yield bench.row(Point(batch=CHUNK), seconds, frames, program.compile_seconds, program.cost, program.peak_bytes)


def _read_folder(bench: Bench) -> Iterator[Row]:
    """Read a DeepSense folder, the disk's cache warm."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = bench.folder or Path(scratch) / "street"
        if not bench.folder:
            drives = CHUNK // 4 if bench.quick else SIMULATED_DRIVES
            write_deepsense(simulate(jax.random.key(bench.seed), STREET, drives), folder, bench.scenario)
        frames = len(read_deepsense(folder, bench.scenario).drive)
        seconds = sample(repeated(lambda: read_deepsense(folder, bench.scenario)), bench.repeats)
        yield bench.row(Point(batch=frames), seconds, frames)


def _pipeline(bench: Bench) -> Iterator[Row]:
    """The whole data-free experiment, compilation included, once."""
    for seeds in (1,) if bench.quick else bench.pipeline_seeds:
        with tempfile.TemporaryDirectory() as scratch:
            folder = {"source": "deepsense", "data_dir": bench.folder, "split": "inorder"}  # as the authors' program
            source = folder if bench.folder else {}
            devices = max(point.devices for point in bench.points)
            flags = {"scenario": bench.scenario, "seed": bench.seed, "quick": bench.quick, "devices": devices, **source}
            config = datafree.DataFree(seeds=seeds, out=Path(scratch), **flags)
            datafree.run(config)
            took = json.loads((Path(scratch) / "results.json").read_text())["seconds"]
        point = Point(config.dfkd_fit.batch_size, seeds, devices)
        more = {"seconds_per_seed": took["total"] / seeds, "phases": took["phases"]}
        yield bench.row(point, np.array([took["total"]]), seeds, took["compile"], **more)


TRAINING = (
    "student_supervised",
    "student_data_free",
    "teacher_gru_supervised",
    "teacher_cnn_gru_supervised",
    "generator",
)
"""Names that the PyTorch program has, too."""

_SUPERVISED = (TRAINED_ON + VALIDATED_ON, VALIDATED_ON)

CASES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    **{case: functools.partial(_train, case) for case in TRAINING},
    "epoch_student": functools.partial(_epoch, "student_supervised", *_SUPERVISED),
    "epoch_student_data_free": functools.partial(_epoch, "student_data_free", SEQUENCES + HELD_OUT, HELD_OUT),
    "epoch_teacher_gru": functools.partial(_epoch, "teacher_gru_supervised", *_SUPERVISED),
    "epoch_teacher_cnn_gru": functools.partial(_epoch, "teacher_cnn_gru_supervised", *_SUPERVISED),
    "evaluate_student": functools.partial(_evaluate, STUDENT),
    "evaluate_teacher": functools.partial(_evaluate, TEACHER_CNN_GRU),
    "infer_student": functools.partial(_infer, STUDENT),
    "infer_teacher": functools.partial(_infer, TEACHER_CNN_GRU),
    "simulate": _simulate,
    "simulate_channel": functools.partial(_simulate_part, "channel"),
    "simulate_beams": functools.partial(_simulate_part, "beams"),
    "simulate_lidar": functools.partial(_simulate_part, "lidar"),
    "simulate_growth": _simulate_growth,
    "read_folder": _read_folder,
    "pipeline": _pipeline,
}
"""All cases by name, in the order of the table."""
