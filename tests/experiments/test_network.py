"""The same study among processes on a network of this machine, with TLS and keys; a minute and a half."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("flwr", reason="the extra 'federation' is not installed")

from experiments.common.network import free_ports, make_keys, network, process  # noqa: E402

STRATEGIES = ("fedavg", "fedmd", "datafree")


def begun(folder, *flags):
    command = [sys.executable, "-m", "experiments.collaborative", "--quick", "--strategies", *STRATEGIES]
    command += ["--sensors", "gps", "--rounds", "1"]  # more of them: tests/collab/test_flower.py
    command += ["--out", str(folder), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def methods(folder):
    return json.loads((folder / "results.json").read_text())["methods"]


def test_a_network_gives_the_figures_of_the_simulator(tmp_path):
    runs = [begun(tmp_path / "there", "--engine", "flower"), begun(tmp_path / "here")]  # at once: nodes often wait
    for run in runs:
        said, _ = run.communicate(timeout=400)
        assert run.returncode == 0 and "report and figures in" in said, said
    there, here = methods(tmp_path / "there"), methods(tmp_path / "here")
    for name in STRATEGIES:
        for metric in ("top1", "top5", "dba", "power_ratio", "bytes_up", "bytes_down"):
            np.testing.assert_allclose(there[name][metric], here[name][metric], atol=1e-5)
        assert not np.any(there[name]["refused"])


def test_nodes_without_a_key_that_is_registered_are_refused(tmp_path):
    with network(tmp_path, 0) as started:
        private, _ = make_keys(tmp_path)
        for number, key in enumerate([[], ["--auth-supernode-private-key", private]]):
            start = ["flower-supernode", "--superlink", started.address, "--root-certificates", started.certificate]
            start += ["--max-retries", 2, "--port", free_ports(1)[0], *key]
            log = tmp_path / f"intruder{number}.log"
            with process(log, start, started.environment) as intruder:
                assert intruder.wait(60), log.read_text()
            assert "SuperNode" in log.read_text()


def test_a_study_that_cannot_run_says_so_in_a_line(tmp_path):
    command = [sys.executable, "-m", "experiments.collaborative", "--engine", "flower", "--superlink", "nowhere"]
    done = subprocess.run([*command, "--out", tmp_path / "run"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr.startswith("collaborative: flwr run: ") and done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr and not (tmp_path / "run").exists()
