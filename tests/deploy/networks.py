"""A small network of each family, for tests of files and streams."""

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Model, as_taken
from beamkd.models import (
    CnnGruTeacher,
    CollaborativeStudent,
    CollaborativeTeacher,
    GruStudent,
    GruTeacher,
    LongTermStudent,
    LongTermTeacher,
    PatchStudent,
    SensorTeacher,
)

LIDAR, MASKS, RADAR, GPS = {"lidar": (8, 24)}, {"masks": (8, 32, 32)}, {"radar": (8, 32, 16)}, {"gps": (3, 2)}
NETWORKS = [
    (GruStudent(), LIDAR),
    (GruTeacher(), LIDAR),
    (PatchStudent(), LIDAR),
    (CnnGruTeacher(), LIDAR),
    (LongTermStudent(channels=(3, 4, 5, 6)), MASKS),
    (LongTermTeacher(channels=(2, 2, 2, 2, 2), dense=(8, 8)), MASKS),
    (CollaborativeStudent(channels=(3, 4, 5)), MASKS),
    (CollaborativeTeacher(channels=(2, 2, 2, 2, 2), dense=(8, 8)), MASKS),
    (SensorTeacher(sensors=("gps",)), GPS),
    (SensorTeacher(sensors=("lidar", "radar")), LIDAR | RADAR),
]


def initial(module, inputs):
    examples = {name: jnp.ones((1, *shape)) for name, shape in inputs.items()}
    return Model(module, jax.jit(module.init)(jax.random.key(0), as_taken(examples)), inputs)


def named(case):
    return f"{type(case[0]).__name__}, {'+'.join(case[1])}"


def drive(model, frames, batch=2):
    """Random frames, by sensor [batch, frames, ...]."""
    rng = np.random.default_rng(0)
    return {name: rng.random((batch, frames, *shape[1:]), np.float32) for name, shape in model.inputs.items()}
