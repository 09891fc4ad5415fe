import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.xla import UNOPTIMIZED

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def prepared(once):
    """The folder that `tests.data.tfds.prepare` leaves."""

    def make(folder):
        environment = {**os.environ, "XLA_FLAGS": UNOPTIMIZED, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "tests.data.tfds.prepare", str(folder)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)

    return once("prepared", make)


@pytest.fixture
def street(prepared, tmp_path):
    """A copy of the street's prepared dataset: the folder of its version."""
    return Path(shutil.copytree(prepared / "datasets" / "beamkd_street" / "nine" / "1.0.0", tmp_path / "street"))
