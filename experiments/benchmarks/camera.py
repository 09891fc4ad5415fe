"""Cases of the benchmark: training steps of the camera students on masks of the published size."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import BEAMS, Array, Batch, Rows, Shared
from beamkd.losses import focal
from beamkd.models import CollaborativeStudent, LongTermStudent, network
from beamkd.training import FitConfig, all_rows, supervised_task
from experiments.benchmarks.networks import Workload, shapes_of, time_epochs
from experiments.benchmarks.timing import MOST_ROUNDS, Bench, Timing

SIZE, MOVING = 224, 0.02
"""Places along each side of a mask, and the share of them where something moves."""


def _take(frames: int, future: int, shared: bool, masks: Array, rows: Rows) -> Batch:
    """Windows that begin one mask apart; their masks once each, or once for each window."""
    seen = rows.index[:, None] + jnp.arange(frames)
    labels = (rows.index[:, None] + jnp.arange(future + 1)) % BEAMS
    sensors = {"masks": Shared(masks, seen) if shared else masks[seen]}
    return Batch(sensors, labels, jnp.zeros((*labels.shape, 0)), rows.mask)


def _train(module: nn.Module, frames: int, future: int, shared: bool, bench: Bench) -> Iterator[Timing]:
    """One training step of one member, as the published programs have it."""
    for point in bench.alone:
        forward = network(module, lambda batch: batch.sensors["masks"], point.dtype, predicted_only=True)
        config = FitConfig(epochs=MOST_ROUNDS, batch_size=point.batch, patience=0, l2=0, clip=10)
        task = supervised_task(forward, functools.partial(_take, frames, future, shared), config, focal)
        count = point.batch + frames - 1
        masks = jax.random.bernoulli(jax.random.key(0), MOVING, (count, SIZE, SIZE)).astype(jnp.float32)
        workload = Workload(task, shapes_of(module, frames, SIZE, SIZE), masks, all_rows(point.batch))
        program, seconds = time_epochs(bench, point, workload)
        yield bench.row(point, seconds, point.batch, program.compile_seconds, peak_bytes=program.peak_bytes)


_STUDENTS = {
    "camera_collab_student": (CollaborativeStudent(), 7, 3),
    "camera_longterm_student_l8": (LongTermStudent(), 7, 6),
    "camera_longterm_student_l3": (LongTermStudent(), 2, 6),
}
"""By case: the student, the masks that it sees, the slots ahead."""

CAMERA_CASES: dict[str, Callable[[Bench], Iterator[Timing]]] = {
    f"{name}{'_shared' if shared else ''}": functools.partial(_train, *student, shared)
    for name, student in _STUDENTS.items()
    for shared in (False, True)
}
"""By name, in the order of the table; `_shared` where each mask of a batch of neighbouring windows is encoded once."""
