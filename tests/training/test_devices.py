"""Members alone, together, and over several devices. Eight devices on a CPU need a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.training import FitConfig, Task, all_rows, fit, map_members
from tests.xla import EIGHT_DEVICES, UNOPTIMIZED

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from beamkd.base import Rows
from beamkd.data import sensor_batch, sensor_input
from beamkd.inversion import layer_moments
from beamkd.models import GruTeacher, network
from beamkd.training import FitConfig, Task, fast_options, fit, map_members

assert len(jax.devices()) == 8

def loss(params, batch, key):
    inputs, targets, mask = batch
    noise = 0.0 if key is None else 0.1 * jax.random.normal(key, inputs.shape)
    error = jnp.square((inputs + noise) @ params - targets)
    return jnp.where(mask, error, 0).sum() / jnp.maximum(mask.sum(), 1), {}

def take(data, rows):
    return data["shared"][rows.index], data["own"][rows.index], rows.mask

task = Task(loss, take, FitConfig(epochs=6, batch_size=4, patience=2, learning_rate=0.3))

def train(key, params, data, rows, val):
    return fit(task, key, params, data, rows, val)

rng = np.random.default_rng(0)
data = {
    "shared": jnp.asarray(rng.normal(size=(12, 3)), jnp.float32),
    "own": jnp.asarray(rng.normal(size=(5, 12)), jnp.float32),
}
rows = Rows(jnp.stack([jnp.roll(jnp.arange(9), n) for n in range(5)]), jnp.arange(9) < jnp.arange(5, 10)[:, None])
val = Rows(jnp.arange(9, 12), jnp.ones(3, bool))
args = jax.random.split(jax.random.key(0), 5), jnp.ones(3), data, rows, val
axes = 0, None, {"shared": None, "own": 0}, 0, None
expected = map_members(train, axes, 1)(*args)
assert expected.params.shape == (5, 3)
assert len(np.unique(expected.params[:, 0])) == 5 and len(np.unique(expected.epoch)) > 1
for devices in DEVICES:
    found = map_members(train, axes, devices)(*args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), found, expected)

# The last argument is None for every member, as validation is for a generator.
add = map_members(lambda a, b, c: {"sum": a["x"] + b, "shared": b}, ({"x": 0, "y": None}, None, None), 8)
found = add({"x": jnp.arange(5), "y": None}, 10, None)
np.testing.assert_array_equal(found["sum"], [10, 11, 12, 13, 14])
np.testing.assert_array_equal(found["shared"], [10] * 5)

# A generator's training magnifies the last bits of what is handed over of a teacher.
teacher = GruTeacher()
scans = sensor_batch(jax.random.uniform(jax.random.key(0), (13, 8, 216)), 3, "lidar")
params = jax.vmap(teacher.init, (0, None))(jax.random.split(jax.random.key(1), 5), sensor_input("lidar")(scans))

def moments(params, scans):
    return layer_moments(network(teacher, sensor_input("lidar")), params, scans)

one, *others = (map_members(moments, (0, None), devices, 1, fast_options())(params, scans) for devices in (1, *DEVICES))
for other in others:
    jax.tree.map(np.testing.assert_array_equal, other, one)
"""


def test_eight_and_three_devices_give_five_members_the_results_of_one_device():
    environment = {**os.environ, "XLA_FLAGS": EIGHT_DEVICES, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("DEVICES", "(8, 3)")],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


UNEVEN = """
import jax, jax.numpy as jnp, numpy as np
from beamkd.training import map_members

def turn(times):
    return jax.lax.fori_loop(0, times, lambda _, a: jnp.tanh(a @ a), jnp.eye(1000))[0, 0]

# The second device trains the third member and a filled-up one, and is done when the first has hardly begun.
found = map_members(turn, (0,), 2)(jnp.array([60, 60, 1]))
np.testing.assert_allclose(found[2], np.tanh(1.0), rtol=1e-6)
assert found.shape == (3,)
"""


def test_a_device_that_is_done_early_does_not_give_up_on_the_others():
    flags = f"{UNOPTIMIZED} --xla_force_host_platform_device_count=2"
    flags += " --xla_cpu_collective_call_warn_stuck_timeout_seconds=0"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = f"{flags} --xla_cpu_collective_call_terminate_timeout_seconds=1"
    options = {"cwd": Path(__file__).parents[2], "env": environment, "capture_output": True, "text": True}
    result = subprocess.run([sys.executable, "-c", UNEVEN], **options)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("form", ["", "pmap", "vmap"])
def test_shared_batches_give_the_losses_and_weights_of_one_device(trained, on_one_device, assert_same, form):
    assert_same(trained(8, 4), on_one_device, form)  # two rows of members, four devices to a batch; 8 to one


SHARED = """
import functools, jax
from beamkd.training import BATCH, map_members
from tests.training.trainings import generator, kd

def operations(training, batch_devices, **axis):
    function, axes, arguments = training
    run = map_members(functools.partial(function, **axis), axes, 8, batch_devices)
    return jax.jit(run).lower(*arguments).cost_analysis()["flops"]

for training in (kd(64), generator(64)):
    alone, shared = operations(training, 1), operations(training, 8, axis_name=BATCH)
    assert shared < alone / 2, (alone, shared)  # not an eighth: each device updates all weights
"""


def test_devices_that_share_batches_divide_the_work():
    environment = {**os.environ, "XLA_FLAGS": EIGHT_DEVICES, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SHARED]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_members_on_one_device_equal_each_alone():
    def loss(params, batch, key):
        return jnp.square(batch @ params - 1 + 0.1 * (0 if key is None else jax.random.normal(key))).mean(), {}

    task = Task(loss, lambda data, rows: data[rows.index], FitConfig(epochs=3, batch_size=2, learning_rate=0.1))
    params, data = jnp.array([[0.1, 0.2], [0.3, -0.5], [1.0, 2.0]]), jnp.array([[1.0, 2.0], [0.0, 1.0], [2.0, -1.0]])
    keys = jax.random.split(jax.random.key(0), 3)

    def train(key, params, data):
        return fit(task, key, params, data, all_rows(3))

    together, alone = map_members(train, (0, 0, None))(keys, params, data), jax.jit(train)
    for member in range(3):
        jax.tree.map(
            lambda found, expected, member=member: np.testing.assert_allclose(found[member], expected, rtol=1e-6),
            together,
            alone(keys[member], params[member], data),
        )


@pytest.mark.parametrize("axes", [(0, None), ({"x": 0}, None), ({"x": 0}, {"y": None, "z": 0})])
def test_shared_arguments_are_shared_and_results_all_have_members(axes):
    def function(a, b):
        return {"sum": a["x"] + b["y"], "shared": b["y"], "constant": jnp.array(7)}

    b = {"y": jnp.array([1.0, 2.0])}
    if isinstance(axes[1], dict):
        b["z"] = jnp.zeros(3)
    found = map_members(function, axes)({"x": jnp.arange(3.0)}, b)
    np.testing.assert_array_equal(found["sum"], [[1, 2], [2, 3], [3, 4]])
    np.testing.assert_array_equal(found["shared"], [[1, 2]] * 3)
    np.testing.assert_array_equal(found["constant"], [7] * 3)
