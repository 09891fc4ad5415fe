import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.common.flags import main
from experiments.datafree import DataFree, defaults
from experiments.datafree import run as run_experiment
from tests.xla import UNOPTIMIZED

ROOT = Path(__file__).parents[2]

TINY = [  # with a generator, whose training may be killed
    *("--recipe", "scenes"),
    *("--drives", "8", "--seeds", "2", "--sequences", "192", "--held-out", "64", "--split", "inorder"),
    *("--teacher", "gru", "--teacher-fit.patience", "0"),
    *(word for fit in ("teacher", "scratch", "kd", "dfkd", "generator") for word in (f"--{fit}-fit.epochs", "12")),
]


@pytest.fixture(scope="session")
def environment(shared_folder):
    """Variables for experiments in processes of their own, which share one cache of compiled programs."""
    two = {"JAX_NUM_CPU_DEVICES": "2"}  # whatever the machine has
    return {
        "JAX_COMPILATION_CACHE_DIR": str(shared_folder / "xla"),
        **os.environ,
        **two,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": UNOPTIMIZED,
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def start(environment):
    """start(*flags, devices=2) starts the data-free experiment."""

    def start(*flags, devices=2):
        variables = {**environment, "JAX_NUM_CPU_DEVICES": str(devices)}
        command = [sys.executable, "-m", "experiments.datafree", *map(str, flags)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=variables, **pipes)

    return start


@pytest.fixture(scope="session")
def run(start):
    """run(*flags, devices=2) runs the data-free experiment to its end: (status, output, errors)."""

    def run(*flags, devices=2):
        process = start(*flags, devices=devices)
        output, errors = process.communicate(timeout=300)
        return process.returncode, output, errors

    return run


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """published(rays) writes a network in the published layout, with random weights: its file."""

    def published(rays=216):
        rng = np.random.default_rng(0)
        shapes = {"embed.weight": (16, rays), "embed.bias": (16,), "fc.weight": (64, 24), "fc.bias": (64,)}
        shapes |= {"gru.weight_ih_l0": (72, 16), "gru.weight_hh_l0": (72, 24)}
        shapes |= {"gru.bias_ih_l0": (72,), "gru.bias_hh_l0": (72,)}
        path = tmp_path_factory.mktemp("published") / "net.npz"
        np.savez(path, **{name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()})
        return path

    return published


@pytest.fixture
def refused(capsys):
    """refused(*flags) runs the data-free experiment in this process: the one line that it is refused with."""

    def refused(*flags):
        with pytest.raises(SystemExit) as stop:
            main("datafree", DataFree, run_experiment, [str(flag) for flag in flags], defaults)
        errors = capsys.readouterr().err.strip()
        assert stop.value.code == 2
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith("datafree: ")
        return errors

    return refused


@pytest.fixture(scope="session")
def tiny():
    """Flags of a run of seconds."""
    return TINY


@pytest.fixture(scope="session")
def finished(run, once):
    """The folder of a tiny run that was not interrupted."""

    def make(folder):
        status, _, errors = run(*TINY, "--out", folder)
        assert status == 0, errors

    return once("finished", make)


@pytest.fixture
def half(finished):
    """half(folder) leaves a tiny run there that has yet to train its generator, and the student of its sequences."""

    def half(folder):
        shutil.copytree(finished, folder)
        (folder / "results.json").unlink()
        for phase in ("generator", "dfkd"):
            shutil.rmtree(folder / "checkpoints" / phase)
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["phase"] not in ("generator", "dfkd")]
        (folder / "metrics.jsonl").write_text("".join(kept))
        return folder

    return half
