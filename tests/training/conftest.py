import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.xla import UNOPTIMIZED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def start():
    """start(out, devices, batch_devices, visible, *process) starts the trainings of trainings.py."""

    def start(out, devices, batch_devices, visible, *process):
        flags = f"{UNOPTIMIZED} --xla_force_host_platform_device_count={visible}"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "tests.training.trainings", out, devices, batch_devices, *process]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, **pipes)

    return start


def _free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def free_address():
    """HOST:PORT on the loopback that nobody uses."""
    return _free_address()


@pytest.fixture(scope="session")
def trained(start, once):
    """trained(devices, batch_devices, processes=1) runs the trainings of trainings.py: their ends by name."""

    def trained(devices, batch_devices, processes=1):
        def make(out):
            address = _free_address()
            several = [(address, processes, number) for number in range(processes)] if processes > 1 else [()]
            running = [start(out, devices, batch_devices, devices // processes, *process) for process in several]
            for process in running:
                errors = process.communicate(timeout=200)[1]
                assert process.returncode == 0, errors

        return pickle.loads(once(f"trained-{devices}-{batch_devices}-{processes}", make).read_bytes())

    return trained


@pytest.fixture(scope="session")
def on_one_device(trained):
    """The ends of the trainings on one device."""
    return trained(1, 1)


@pytest.fixture(scope="session")
def assert_same():
    """assert_same(found, expected, form=""): losses of every epoch and weights of the members of a form, to 1e-5."""

    def assert_same(found, expected, form=""):
        compared = {name: found[key] for name in expected if (key := f"{name} {form}".strip()) in found}
        assert compared
        for name, own in compared.items():
            end = expected[name]
            assert np.isfinite(end.history["loss"]).all()
            end = jax.tree.map(lambda leaf, own=own: leaf[: len(own.epoch)], end)
            for part in ("params", "history", "epoch"):
                ends = getattr(own, part), getattr(end, part)
                jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=0), *ends)

    return assert_same
