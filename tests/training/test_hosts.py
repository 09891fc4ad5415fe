"""Several processes on the loopback, each with devices of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from beamkd.base import InputError
from beamkd.training import distributed, from_primary, is_primary, to_host
from beamkd.training.hosts import agreed
from tests.xla import UNOPTIMIZED

ROOT = Path(__file__).parents[2]


def test_two_processes_give_the_losses_and_weights_of_one(trained, on_one_device, assert_same):
    # Members and batches both spread; members alone: tests/experiments/test_hosts.py.
    assert_same(trained(4, 2, processes=2), on_one_device)


ENDLESS = """
import sys, jax, jax.numpy as jnp
from beamkd.training import to_host, distributed, map_members

coordinator, process = sys.argv[1:]
with distributed("endless", coordinator, 2, int(process)):
    double = map_members(lambda x: 2 * x, (0,), jax.device_count())
    while True:
        to_host(double(jnp.ones(2)))
        print("on", flush=True)
"""


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_whose_partner_is_killed_says_so_and_stops(killed, free_address):
    environment = {**os.environ, "XLA_FLAGS": UNOPTIMIZED, "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, "cwd": ROOT}
    both = [subprocess.Popen([sys.executable, "-c", ENDLESS, free_address, str(n)], **pipes) for n in range(2)]
    for process in both:
        assert "on\n" in process.stdout  # reads on, past what the runtime prints, until both run
    both[killed].kill()
    other = both[1 - killed]
    errors = other.communicate(timeout=100)[1]
    assert other.returncode == 1
    line = "endless: another process was lost; start all of them again with --resume"
    assert errors.splitlines()[-1].startswith(line), errors


UNEQUAL = """
import sys, jax
from beamkd.base import InputError
from beamkd.training import distributed
from beamkd.training.hosts import agreed
from tests.xla import UNOPTIMIZED

def load():
    if process == refusing:
        raise InputError("/data: expected a folder, fönd nothing" + 1000 * "!")
    return process

coordinator, process, refusing = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with distributed("unequal", coordinator, 2, process):
    refusing, kept = None, refusing
    assert agreed(load) == process  # each has its own
    refusing = kept
    try:
        agreed(load)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2)
"""


def test_what_one_process_is_refused_ends_all_with_its_line(free_address):
    environment = {**os.environ, "XLA_FLAGS": UNOPTIMIZED, "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
    pipes = {"stderr": subprocess.PIPE, "text": True, "env": environment, "cwd": ROOT}
    commands = [[sys.executable, "-c", UNEQUAL, free_address, str(number), "1"] for number in range(2)]
    both = [subprocess.Popen(command, **pipes) for command in commands]
    for process in both:
        errors = process.communicate(timeout=100)[1]
        assert process.returncode == 2, errors
        line = errors.splitlines()[-1]
        assert line.startswith("process 1: /data: expected a folder, fönd nothing!!!") and len(line) < 1020


def test_alone_a_process_agrees_with_itself():
    assert agreed(lambda: 3) == 3
    with pytest.raises(InputError, match="^--data-dir: nothing$"):
        agreed(lambda: (_ for _ in ()).throw(InputError("--data-dir: nothing")))


def test_alone_a_process_is_the_first_and_results_are_its_own():
    with distributed("test", None, None, None):
        assert is_primary()
        assert from_primary(lambda: {"a": 1}) == {"a": 1}
        assert to_host({"a": "text", "b": None}) == {"a": "text", "b": None}


def test_refusal_of_the_first_process_is_passed_on():
    def refuse():
        raise InputError("--out: expected nothing")

    with pytest.raises(InputError, match="--out: expected nothing"):
        from_primary(refuse)


def test_cluster_that_is_not_there_is_refused(monkeypatch):
    def nowhere(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", nowhere)
    monkeypatch.setattr("beamkd.training.hosts._say_when_aborted", lambda line: None)
    with (
        pytest.raises(InputError, match="--coordinator: expected the environment of a cluster"),
        distributed("test", "auto", None, None),
    ):
        pass
