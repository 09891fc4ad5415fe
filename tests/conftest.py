import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.xla import UNOPTIMIZED

os.environ.setdefault("XLA_FLAGS", UNOPTIMIZED)  # of this process, too, which has not started JAX yet


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder of this call of pytest, the same for all workers of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def once(shared_folder):
    """once(name, make) calls make(path) in the first worker that asks, and the others wait: the path."""

    def once(name, make):
        path = shared_folder / name
        with open(shared_folder / f"{name}.lock", "a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock.fileno()).st_size == 0:
                make(path)
                lock.write("made")
        return path

    return once


@pytest.fixture(scope="session")
def prepared(once):
    """The folder that `tests.data.tfds.prepare` leaves: simulated drives, a DeepSense folder, TFDS datasets of both."""

    def make(folder):
        environment = {**os.environ, "XLA_FLAGS": UNOPTIMIZED, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "tests.data.tfds.prepare", str(folder)]
        subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, check=True)

    return once("prepared", make)
