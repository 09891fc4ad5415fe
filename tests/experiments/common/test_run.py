"""A run's folder, commit and clock; what is trained here is one weight."""

import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.training import FitConfig, Task, all_rows
from experiments.common import folder as folders
from experiments.common import run as module
from experiments.common.folder import MARKER, WRITTEN
from experiments.common.run import Run, environment
from experiments.datafree import DataFree

ROOT = Path(__file__).parents[3]
EPOCHS = 4


@pytest.fixture
def config(tmp_path):
    return DataFree(out=tmp_path / "run")


@pytest.fixture
def resumed(config):
    return dataclasses.replace(config, resume=True)


def train(run, phase="phase", first=1.0, examples=4):
    """Train one weight, from a first value: its last."""

    def loss(params, batch, key):
        return jnp.mean((params["w"] - batch) ** 2), {}

    fit = FitConfig(epochs=EPOCHS, batch_size=2, patience=0)
    task = Task(loss, lambda data, rows: data[rows.index], fit)
    keys, params = jax.random.split(jax.random.key(0), 1), {"w": jnp.full(1, first)}
    return run.train(phase, task, keys, params, jnp.arange(4.0), all_rows(examples)).params["w"]


def contents(folder):
    return {path.name for path in folder.iterdir()}


HOLD = """
import sys
from pathlib import Path
from experiments.common.folder import open_folder

open_folder(Path(sys.argv[1]), {"of": "another"}, False)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_one_runs_at_a_time_and_free_when_its_process_was_killed(config, resumed, refused):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, config.out], **pipes) as other:
        assert other.stdout.readline() == "held\n"
        before = (config.out / "config.json").read_bytes()
        errors = refused("--out", config.out)
        assert errors == f"datafree: --out: expected a folder that no other run is using, found one in {config.out}"
        with pytest.raises(InputError, match="--out: expected a folder that no other run is using"):
            folders.open_folder(config.out, {"of": "another"}, True)
        assert (config.out / "config.json").read_bytes() == before
        other.kill()
    Run("test", config)
    Run("test", resumed)  # a later run in the same process


def test_without_locks_runs_go_on(config, monkeypatch):
    monkeypatch.setattr(folders, "fcntl", None)
    Run("test", config)


def test_a_new_run_takes_no_checkpoint_and_a_resumed_one_its_own(config, resumed):
    expected = train(Run("test", config))
    shutil.copytree(config.out / "checkpoints", config.out / "kept")
    run = Run("test", config)
    assert not (config.out / "checkpoints").exists()
    shutil.copytree(config.out / "kept", config.out / "checkpoints")
    assert train(run, first=5.0) != expected  # it was trained, not loaded
    shutil.rmtree(config.out / "checkpoints")
    shutil.copytree(config.out / "kept", config.out / "checkpoints")
    np.testing.assert_array_equal(train(Run("test", resumed), first=5.0), expected)
    elsewhere = dataclasses.replace(resumed, devices=1, resident=0)  # flags that are free to change
    np.testing.assert_array_equal(train(Run("test", elsewhere), first=5.0), expected)


@pytest.mark.parametrize("other", ["configuration", "experiment", "phase", "rows"])
def test_a_checkpoint_of_anything_else_is_refused(config, resumed, tmp_path, other):
    there = dataclasses.replace(config, out=tmp_path / "other", alpha=0.5 if other == "configuration" else 0.6)
    phase, name = "fit" if other == "phase" else "phase", "other" if other == "experiment" else "test"
    train(Run(name, there), phase, examples=3 if other == "rows" else 4)
    Run("test", config)
    shutil.copytree(there.out / "checkpoints" / phase, config.out / "checkpoints" / "phase")
    with pytest.raises(InputError) as caught:
        train(Run("test", resumed))
    expected = "expected a checkpoint of this run, found one of another run or version"
    assert str(caught.value) == f"{config.out / 'checkpoints' / 'phase'}: {expected}"


def test_a_new_run_removes_what_runs_write_and_nothing_else(config):
    Run("test", config)
    old = [name for name in WRITTEN if "." in name] + ["drives.1", "drives.1.writing", "drives", "drives.writing"]
    own = ["notes.md", "my.png", "drives.txt", "drives.old", "config.json.bak"]
    for name in old + own:
        (config.out / name).write_text("old")
    for name in ("checkpoints", "networks"):
        (config.out / name / "teacher").mkdir(parents=True)
    Run("test", dataclasses.replace(config, alpha=0.5))
    assert contents(config.out) - {MARKER} == {*own, "config.json"}
    assert json.loads((config.out / "config.json").read_text())["alpha"] == 0.5
    assert all((config.out / name).read_text() == "old" for name in own)


def test_what_reports_write_is_known():
    reports = "".join(path.read_text() for path in (ROOT / "beamkd" / "report").glob("*.py"))
    named = set(re.findall(r'"(\w+\.(?:png|md|tex|html))"', reports))
    assert {"report.md", "report.html", "accuracy.png", "differences.png", "roofline.png"} <= named <= set(WRITTEN)


def test_what_cannot_be_removed_stops_a_new_run_before_anything_of_it_is_there(config, monkeypatch):
    train(Run("test", config))

    def refuse(path, **_):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(InputError, match=f"{config.out / 'checkpoints'}: expected what can be removed"):
        Run("test", config)
    assert "config.json" not in contents(config.out)


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which do not go on by themselves."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def seconds(folder):
    return json.loads((folder / "results.json").read_text())["seconds"]


def test_seconds_are_those_of_all_processes_of_a_run(config, resumed, clock, monkeypatch):
    save, kept = module.checkpoints.save, []

    def slow_save(*arguments):
        clock.now += 1
        kept.append(save(*arguments))
        if len(kept) == 3:  # this one is kept, but the process ends before it can say what it took
            clock.now += 1000
            raise KeyboardInterrupt

    monkeypatch.setattr(module.checkpoints, "save", slow_save)
    monkeypatch.setattr(module, "Trainer", functools.partial(module.Trainer, interval=0))
    first = Run("test", config)
    clock.now += 10
    with first.phase("data"):
        clock.now += 20
    with pytest.raises(KeyboardInterrupt):
        train(first)
    clock.now += 1000
    second = Run("test", resumed)
    with second.phase("data"):
        clock.now += 5
    train(second)
    second.finish()
    found = seconds(config.out)
    assert found["phases"] == {"data": 25, "phase": EPOCHS - 1}
    assert found["total"] == 10 + 25 + EPOCHS - 1
    clock.now += 1000
    third = Run("test", resumed)  # nothing is left to do
    clock.now += 3
    third.finish()
    assert seconds(config.out)["total"] == found["total"] + 3
    fresh = Run("test", config)
    fresh.finish()
    assert seconds(config.out)["total"] == 0


def test_results_tell_the_devices_that_were_used(config):
    Run("test", dataclasses.replace(config, devices=1)).finish(environment={"cores": 3}, data={})
    found = json.loads((config.out / "results.json").read_text())
    assert found["environment"] | {"devices": 1, "batch_devices": 1, "cores": 3} == found["environment"]
    assert {"commit", "dirty", "jax", "backend"} <= set(found["environment"])


def fake_git(folder, script):
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)


@pytest.mark.parametrize("script", [None, "exit 1", "sleep 50", "echo nonsense; exit 128"])
def test_without_a_git_that_answers_the_commit_is_not_known(script, tmp_path, monkeypatch):
    if script:
        fake_git(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(tmp_path))
    monkeypatch.setattr(module, "GIT_SECONDS", 0.1)
    found = environment()
    assert (found["commit"], found["dirty"]) == (None, None)


@pytest.fixture
def repository(tmp_path):
    """A repository with one tracked file: git(*words) runs in it, and the file."""
    if not shutil.which("git"):
        pytest.skip("no git")

    def git(*words):
        who = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, env=variables, capture_output=True, check=True)
        return done.stdout.decode().strip()

    file = tmp_path / "experiments" / "run.py"
    file.parent.mkdir()
    file.write_text("code")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    return git, file


def test_commit_is_that_of_the_code_and_changes_to_it_are_told(repository, tmp_path):
    git, file = repository
    assert module._commit(file) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "notes").write_text("not tracked")
    assert module._commit(file)[1] is False
    file.write_text("other code")
    assert module._commit(file) == (git("rev-parse", "HEAD"), True)


def test_a_repository_around_the_code_does_not_count(repository, tmp_path, monkeypatch):
    git, file = repository
    installed = tmp_path / "venv" / "site-packages" / "experiments" / "run.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("code")
    assert module._commit(installed) == (None, None)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))  # as in a hook
    monkeypatch.setenv("GIT_WORK_TREE", str(installed.parents[1]))
    assert module._commit(installed) == (None, None)
    assert module._commit(file)[0] == git("rev-parse", "HEAD")
