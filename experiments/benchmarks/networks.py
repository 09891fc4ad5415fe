"""Cases of the benchmark: training, evaluation and inference of the networks.

Each case is a function of a `Bench` that yields rows for results.json, one a point. Inputs are random numbers, for none
of this takes longer or shorter with other ones.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from beamkd.base import BEAMS, FUTURE, OBSERVED, SCAN_RAYS, Array, Batch, Drives, Metadata, Rows, Windows
from beamkd.data import gather, select, sensor_batch, sensor_input
from beamkd.distill import distillation_task, held_out
from beamkd.inversion import inversion_task
from beamkd.models import CnnGruTeacher, Generator, GruStudent, GruTeacher, network
from beamkd.training import FitConfig, Task, advance, all_rows, evaluate, map_members, start, supervised_task
from beamkd.training.batches import EVALUATION_BATCH
from experiments.benchmarks.timing import (
    MOST_ROUNDS,
    Bench,
    Cost,
    Point,
    Program,
    Timing,
    compile_program,
    cost_of,
    repeated,
    sample,
)

STUDENT, TEACHER_GRU, TEACHER_CNN_GRU, GENERATOR = GruStudent(), GruTeacher(), CnnGruTeacher(), Generator()
NETWORKS = {"student": STUDENT, "teacher_gru": TEACHER_GRU, "teacher_cnn_gru": TEACHER_CNN_GRU}

INPUT, AS_BATCH = sensor_input("lidar"), functools.partial(sensor_batch, future=FUTURE, name="lidar")

WINDOWS, TRAINED_ON, VALIDATED_ON = 3462, 2077, 519
"""Windows of Scenario 8, and the 60 % and 15 % of them that a random split trains on and validates on."""

SEQUENCES, HELD_OUT = 5000, 1000
"""Generated windows that the data-free student trains on and validates on."""

MOST_STEPS, LEAST_STEPS, WINDOWS_A_CALL = 40, 4, 10_240
"""Steps of the epoch that a training step is timed in: about as many as a real one has, fewer where they are large."""

COUNTED = 64
"""Windows of the largest batch whose cost is counted: the frames of larger ones may be encoded in a loop, of which XLA
counts one round."""


@dataclasses.dataclass(frozen=True)
class Workload:
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


def _workload(case: str, batch: int, dtype: str, count: int, last: int = 0) -> Workload:
    """The workload of a case over `count` windows, of which the `last` ones are for validation."""
    train, val = held_out(count, last) if last else (all_rows(count), None)
    config = FitConfig(epochs=MOST_ROUNDS, batch_size=batch, patience=0)
    if case == "generator":
        # Members share the teacher, as fifty generators of one teacher do. An epoch of theirs is one step.
        task = inversion_task(network(TEACHER_CNN_GRU, INPUT, dtype=dtype), GENERATOR, AS_BATCH, config=config)
        width = TEACHER_CNN_GRU.hidden
        data = (_teacher(), Metadata(jnp.zeros(width), jnp.ones(width)))
        return Workload(task, shapes_of(GENERATOR, GENERATOR.noise), data, all_rows(batch))
    if case.startswith("student_data_free"):
        task = distillation_task(network(STUDENT, INPUT, dtype=dtype), select, config)
        scans = AS_BATCH(_scans(count))
        if case == "student_data_free":
            # The teacher's answers are there, for they are computed once, before the first epoch.
            answers = jax.random.normal(jax.random.key(0), (count, OBSERVED + FUTURE, BEAMS))
            return Workload(task, shapes_of(STUDENT), (scans, answers), train, val)
        task = dataclasses.replace(task, take=functools.partial(_take_and_ask, dtype))
        return Workload(task, shapes_of(STUDENT), (scans, _teacher()), train, val)
    module = NETWORKS[case.removesuffix("_supervised")]
    predict = network(module, INPUT, dtype=dtype, predicted_only=True)
    task = supervised_task(predict, gather, dataclasses.replace(config, clip=0))
    return Workload(task, shapes_of(module), _windows(count), train, val)


def _take_and_ask(dtype: str, data: tuple[Batch, Any], rows: Rows) -> tuple[Batch, dict[str, Array]]:
    """Scans, and what the frozen teacher says of them now; the task differentiates neither."""
    examples, params = data
    batch = select(examples, rows)
    return batch, {"teacher_logits": network(TEACHER_CNN_GRU, INPUT, dtype=dtype)(params, batch, None).logits}


def _teacher() -> Any:
    """Weights of the teacher that all members share."""
    return jax.tree.map(lambda leaf: leaf[0], _weights(shapes_of(TEACHER_CNN_GRU), 1))


def shapes_of(module: nn.Module, *inputs: int) -> Any:
    """Shapes of a module's weights, for inputs [1, *inputs]; scans if not given."""
    example = jnp.zeros((1, *(inputs or (OBSERVED, SCAN_RAYS))))
    return jax.eval_shape(module.init, jax.random.key(0), example)


def _weights(shapes: Any, members: int) -> Any:
    """Weights of that many members, [members, ...]; from NumPy, which needs no compilation."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.1, (members, *leaf.shape)), leaf.dtype), shapes)


def _scans(count: int) -> Array:
    return jax.random.uniform(jax.random.key(0), (count, OBSERVED, SCAN_RAYS))


def _windows(count: int) -> Windows:
    """As many windows over one long drive of random frames."""
    frames = count + OBSERVED + FUTURE - 1
    number = jnp.arange(frames)
    scan_key, power_key = jax.random.split(jax.random.key(0))
    drives = Drives(
        sensors={"lidar": 10 * jax.random.uniform(scan_key, (frames, SCAN_RAYS))},
        power=jax.random.uniform(power_key, (frames, BEAMS)),
        position=jnp.zeros((frames, 2)),
        drive=jnp.ones(frames, jnp.int32),
        slot=number,
    )
    first = number[:count, None]
    current = first + OBSERVED - 1
    return Windows(drives, first + jnp.arange(OBSERVED), current + jnp.arange(FUTURE + 1), drives.drive[:count])


def _train(case: str, bench: Bench) -> Iterator[Timing]:
    """One training step at every point: an epoch's time over its steps."""
    least = 2 if case == "generator" else 1  # the variance of its teacher's features takes two windows
    points = (dataclasses.replace(point, batch=max(least, point.batch)) for point in bench.points)
    for point in dict.fromkeys(points):
        fitting = WINDOWS_A_CALL // (point.batch * point.members)
        steps = 1 if case == "generator" else max(LEAST_STEPS, min(fitting, MOST_STEPS))
        workload = _workload(case, point.batch, point.dtype, steps * point.batch)
        program, seconds = time_epochs(bench, point, workload)
        cost = step_cost(case, point.batch, point.dtype).times(point.members)
        items = point.members * point.batch
        yield bench.row(point, seconds / steps, items, program.compile_seconds, cost, program.peak_bytes)


def _epoch(case: str, count: int, last: int, bench: Bench) -> Iterator[Timing]:
    """One epoch of one member, validation included."""
    for point in bench.alone:
        workload = _workload(case, point.batch, point.dtype, count, last)
        program, seconds = time_epochs(bench, point, workload)
        steps = -(-(count - last) // point.batch)
        sweep = 4 * point.batch  # validation takes batches four times as large

        def validate(params, data, rows, task=workload.task):
            return task.loss(params, task.take(data, rows), None)[0]

        def validation(rows, validate=validate, workload=workload):
            return cost_of(validate, workload.shapes, workload.data, all_rows(rows))

        cost = step_cost(case, point.batch, point.dtype).times(steps)
        cost = cost.plus(_in_proportion(validation, min(sweep, last)).times(-(-last // sweep)))
        yield bench.row(point, seconds, count - last, program.compile_seconds, cost, program.peak_bytes)


def time_epochs(bench: Bench, point: Point, workload: Workload) -> tuple[Program, np.ndarray]:
    """Seconds that an epoch of all members takes, [samples]."""
    params = _weights(workload.shapes, point.members)
    begin = jax.vmap(functools.partial(start, workload.task), (0, None, None))
    state = jax.jit(begin)(params, workload.data, workload.train)
    keys = jax.random.split(jax.random.key(2), point.members)
    train = map_members(functools.partial(advance, workload.task), (0, 0, None, None, None, None), point.devices)
    program = compile_program(train, state, keys, workload.data, workload.train, workload.val, jnp.int32(1))
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
    workload = _workload(case, batch, dtype, batch)
    key, data, rows = jax.random.key(0), workload.data, workload.train
    state = jax.eval_shape(lambda params: start(workload.task, params, data, rows), workload.shapes)
    return cost_of(functools.partial(advance, workload.task), state, key, data, rows, None, jnp.int32(1))


def _infer(module: nn.Module, bench: Bench) -> Iterator[Timing]:
    """Scans from the host's memory to the predicted slots' logits there, dispatch included, at every point."""
    for point in bench.points:
        predict, scans = _predictor(module, point.dtype), np.asarray(_scans(point.batch))
        infer = map_members(predict, (0, None), point.devices)
        program = compile_program(infer, _weights(shapes_of(module), point.members), scans)
        answer = functools.partial(_fetch, program.call, program.args[0], scans)
        seconds = sample(repeated(answer), bench.repeats)
        cost = _in_proportion(
            lambda count, predict=predict: cost_of(predict, shapes_of(module), _scans(count)), point.batch
        )
        cost = cost.times(point.members)  # a loop over members would count once
        items = point.members * point.batch
        yield bench.row(point, seconds, items, program.compile_seconds, cost, program.peak_bytes)


def _predictor(module: nn.Module, dtype: str) -> Callable[[Any, Array], Array]:
    forward = network(module, INPUT, dtype=dtype, predicted_only=True)

    def predict(params, scans):
        return forward(params, AS_BATCH(scans)).logits

    return predict


def _fetch(function: Callable, *args: Any) -> np.ndarray:
    return np.asarray(function(*args))


def _evaluate(module: nn.Module, bench: Bench) -> Iterator[Timing]:
    """All metrics over Scenario 8's number of windows, one member."""
    for point in bench.alone:
        forward = network(module, INPUT, dtype=point.dtype, predicted_only=True)
        score = functools.partial(evaluate, forward, take=gather)
        params = jax.tree.map(lambda leaf: leaf[0], _weights(shapes_of(module), 1))
        program = compile_program(score, params, _windows(WINDOWS), all_rows(WINDOWS))
        batches = -(-WINDOWS // EVALUATION_BATCH)

        def scoring(rows, score=score, params=params):
            return cost_of(score, params, _windows(WINDOWS), all_rows(rows))

        cost = _in_proportion(scoring, EVALUATION_BATCH).times(batches)
        seconds = sample(repeated(functools.partial(program.call, *program.args)), bench.repeats)
        point = dataclasses.replace(point, batch=EVALUATION_BATCH)
        yield bench.row(point, seconds, WINDOWS, program.compile_seconds, cost, program.peak_bytes)


TRAINING = (
    "student_supervised",
    "student_data_free",
    "student_data_free_teacher",
    "teacher_gru_supervised",
    "teacher_cnn_gru_supervised",
    "generator",
)
"""Training steps. In `student_data_free_teacher` the frozen teacher runs within every step, as in PyTorch's data-free
step; in our training it does not."""

_SUPERVISED = (TRAINED_ON + VALIDATED_ON, VALIDATED_ON)

NETWORK_CASES: dict[str, Callable[[Bench], Iterator[Timing]]] = {
    **{case: functools.partial(_train, case) for case in TRAINING},
    "epoch_student": functools.partial(_epoch, "student_supervised", *_SUPERVISED),
    "epoch_student_data_free": functools.partial(_epoch, "student_data_free", SEQUENCES + HELD_OUT, HELD_OUT),
    "epoch_teacher_gru": functools.partial(_epoch, "teacher_gru_supervised", *_SUPERVISED),
    "epoch_teacher_cnn_gru": functools.partial(_epoch, "teacher_cnn_gru_supervised", *_SUPERVISED),
    "evaluate_student": functools.partial(_evaluate, STUDENT),
    "evaluate_teacher": functools.partial(_evaluate, TEACHER_CNN_GRU),
    "infer_student": functools.partial(_infer, STUDENT),
    "infer_teacher": functools.partial(_infer, TEACHER_CNN_GRU),
}
"""Cases of training and inference by name, in the order of the table."""
