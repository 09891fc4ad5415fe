"""Real trainings of a few seconds, run as a program by tests of devices and of processes.

    python -m tests.training.trainings OUT DEVICES BATCH_DEVICES [HOST:PORT PROCESSES PROCESS]

leaves the end of each in OUT. With BATCH_DEVICES there are also ends by `jax.pmap` and `jax.vmap`, of the first member.
"""

import functools
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Batch, Metadata
from beamkd.data import select, sensor_batch, sensor_input
from beamkd.distill import distillation_task
from beamkd.inversion import GeneratorLoss, invert
from beamkd.models import Generator, GruStudent, network
from beamkd.training import (
    BATCH,
    FitConfig,
    all_rows,
    distributed,
    fit,
    is_primary,
    map_members,
    to_host,
)

SEEDS = 2
ROWS, HELD_OUT = 122, 30
FRAMES, RAYS, FUTURE, BEAMS = 2, 24, 1, 16  # each step of a recurrence takes the compiler time
STEPS = 50
INPUT = sensor_input("lidar")


def _windows():
    rng = np.random.default_rng(0)
    shape = ROWS + HELD_OUT, FRAMES, RAYS
    scans = np.where(rng.random(shape) < 0.1, rng.uniform(5, 15, shape), 0)
    labels = rng.integers(-1, BEAMS, (ROWS + HELD_OUT, FUTURE + 1))
    arrays = {"lidar": scans.astype(np.float32)}, labels, np.zeros((*labels.shape, 0)), np.ones(len(labels), bool)
    return jax.tree.map(jnp.asarray, Batch(*arrays))


def _config(batch_size):
    return FitConfig(-(-STEPS // -(-ROWS // batch_size)), batch_size, patience=0)


def kd(batch_size):
    """Train the student, with dropout, on labels and a teacher's answers: (function, axes, arguments)."""
    answers = jax.random.normal(jax.random.key(3), (ROWS + HELD_OUT, FRAMES + FUTURE, BEAMS))
    task = distillation_task(network(GruStudent(beams=BEAMS), INPUT), select, _config(batch_size), alpha=0.6)
    module, everything = GruStudent(beams=BEAMS), all_rows(ROWS + HELD_OUT)
    rows, val = (
        jax.tree.map(lambda leaf, part=part: leaf[part], everything) for part in (slice(ROWS), slice(ROWS, None))
    )

    def train(key, data, axis_name=None):
        params = module.init(key, jnp.zeros((1, FRAMES, RAYS)))
        return fit(task, key, params, data, rows, val, axis_name)

    return train, (0, None), (jax.random.split(jax.random.key(1), SEEDS), (_windows(), answers))


def generator(batch_size):
    """Invert a network by the losses of a whole batch: (function, axes, arguments).

    In small steps: some gradients are as small as the rounding of their sums, and Adam takes full steps along them.
    """
    module = GruStudent(beams=BEAMS)
    params = module.init(jax.random.key(0), jnp.zeros((1, FRAMES, RAYS)))
    states = Metadata(jnp.zeros((FRAMES + FUTURE, 24)), jnp.full((FRAMES + FUTURE, 24), 0.1))
    summary = Metadata(jnp.linspace(-0.5, 0.5, 24), jnp.linspace(0.05, 0.2, 24), {"states": states})

    def train(key, params, summary, axis_name=None):
        return invert(
            key,
            Generator(frames=FRAMES, rays=RAYS),
            network(module, INPUT),
            params,
            summary,
            functools.partial(sensor_batch, future=FUTURE, name="lidar"),
            GeneratorLoss(metadata=1.0, activation=0.1, entropy=0.5, layers=0.1),
            FitConfig(STEPS, batch_size, patience=0, learning_rate=1e-4),
            axis_name,
        )

    return train, (0, None, None), (jax.random.split(jax.random.key(2), SEEDS), params, summary)


TRAININGS = {"kd": (kd, 61), "generator": (generator, 50)}


def _forms(name, devices, batch_devices):
    """The end of a training by members over devices, and of its first member by JAX's own transforms."""
    training, batch_size = TRAININGS[name]
    function, axes, arguments = training(batch_size)
    shared = functools.partial(function, axis_name=BATCH) if batch_devices > 1 else function
    yield name, map_members(shared, axes, devices, batch_devices)(*arguments)
    if batch_devices > 1 and jax.process_count() == 1 and name == "kd":  # the generator's would compile for long
        keys = jnp.repeat(arguments[0][:1], devices, axis=0)
        on_axis = functools.partial(function, axis_name="anything")
        for form in (jax.pmap, jax.vmap):
            run = jax.jit(form(on_axis, axis_name="anything", in_axes=axes))
            yield f"{name} {form.__name__}", jax.tree.map(lambda leaf: leaf[:1], run(keys, *arguments[1:]))


def main(out, devices, batch_devices, coordinator=None, processes=None, process=None):
    """Run all trainings."""
    with distributed("trainings", coordinator, processes and int(processes), process and int(process)):
        ends = {}
        for name in TRAININGS if jax.process_count() == 1 else ["generator"]:
            for form, end in _forms(name, int(devices), int(batch_devices)):
                ends[form] = to_host(end)
        if is_primary():
            with open(out, "wb") as file:
                pickle.dump(ends, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
