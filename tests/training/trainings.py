"""Real trainings of a few seconds, run as a program by tests of devices and of processes.

    python -m tests.training.trainings OUT DEVICES BATCH_DEVICES [HOST:PORT PROCESSES PROCESS]

leaves the end of each in OUT.
"""

import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Batch, Metadata
from beamkd.data import lidar_batch, lidar_input, select
from beamkd.inversion import GeneratorLoss, invert
from beamkd.models import Generator, GruStudent, network
from beamkd.training import FitConfig, all_rows, distributed, fit, is_primary, map_members, supervised_task, to_host

SEEDS = 2
ROWS, HELD_OUT = 122, 30
FRAMES, RAYS = 2, 216  # each step of a recurrence takes the compiler time
STEPS = 50


def student(batch_size):
    """Train the student, with dropout, on labels: (function, axes, arguments)."""
    rng = np.random.default_rng(0)
    shape = ROWS + HELD_OUT, FRAMES, RAYS
    scans = np.where(rng.random(shape) < 0.1, rng.uniform(5, 15, shape), 0)
    labels = rng.integers(-1, 64, (ROWS + HELD_OUT, 4))
    data = Batch({"lidar": scans.astype(np.float32)}, labels, np.zeros((*labels.shape, 0)), np.ones(len(labels), bool))
    module = GruStudent()
    epochs = -(-STEPS // -(-ROWS // batch_size))
    task = supervised_task(network(module, lidar_input), select, FitConfig(epochs, batch_size, patience=0))
    everything = all_rows(ROWS + HELD_OUT)
    rows, val = (
        jax.tree.map(lambda leaf, part=part: leaf[part], everything) for part in (slice(ROWS), slice(ROWS, None))
    )

    def train(key, data):
        return fit(task, key, module.init(key, jnp.zeros((1, FRAMES, RAYS))), data, rows, val)

    return train, (0, None), (jax.random.split(jax.random.key(1), SEEDS), jax.tree.map(jnp.asarray, data))


def generator(batch_size):
    """Invert a network by the losses of a whole batch: (function, axes, arguments).

    In small steps: some gradients are as small as the rounding of their sums, and Adam takes full steps along them.
    """
    module = GruStudent()
    params = module.init(jax.random.key(0), jnp.zeros((1, FRAMES, RAYS)))
    summary = Metadata(jnp.linspace(-0.5, 0.5, 24), jnp.linspace(0.05, 0.2, 24))

    def train(key, params, summary):
        return invert(
            key,
            Generator(frames=FRAMES, rays=RAYS),
            network(module, lidar_input),
            params,
            summary,
            lidar_batch,
            GeneratorLoss(metadata=1.0, activation=0.1, entropy=0.5),
            FitConfig(STEPS, batch_size, patience=0, learning_rate=1e-4),
        )

    return train, (0, None, None), (jax.random.split(jax.random.key(2), SEEDS), params, summary)


def main(out, devices, batch_devices, coordinator=None, processes=None, process=None):
    """Run both trainings."""
    with distributed("trainings", coordinator, processes and int(processes), process and int(process)):
        ends = {}
        for name, training in {"student": student(61), "generator": generator(50)}.items():
            function, axes, arguments = training
            ends[name] = to_host(map_members(function, axes, int(devices), int(batch_devices))(*arguments))
        if is_primary():
            with open(out, "wb") as file:
                pickle.dump(ends, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
