"""The data-free experiment in two processes on the loopback."""

import json
import signal
import socket
import time

import numpy as np
import pytest


@pytest.fixture
def start_two(start, tmp_path):
    """start_two(*flags) starts the experiment in two processes, which write to folders of their own: [process].

    `second` are flags of the second one alone.
    """

    def start_two(*flags, second=()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        several = "--coordinator", address, "--num-processes", 2, "--process-id"
        for number, own in enumerate([(), second]):
            running.append(start(*flags, *own, "--out", tmp_path / str(number), *several, number, devices=1))
        return running[-2:]

    running = []
    yield start_two
    for process in running:
        process.kill()


def phases(folder):
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return {json.loads(line)["phase"] for line in text.splitlines() if line.endswith("}")}


def kill_in(phase, killed, other, folder):
    """Kill one process with SIGKILL when a phase has begun: status and output of the other, which was not told."""
    deadline = time.monotonic() + 120
    while phase not in phases(folder):
        assert killed.poll() is None and time.monotonic() < deadline, killed.communicate()[1]
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    _, errors = other.communicate(timeout=100)
    return other.returncode, errors


def test_when_a_process_is_killed_the_other_says_so_and_both_resume_to_the_same_figures(
    start_two, finished, half, tiny, tmp_path
):
    half(tmp_path / "0")  # by one process
    first, second = start_two(*tiny, "--resume")
    status, errors = kill_in("generator", second, first, tmp_path / "0")
    assert status == 1
    line = "datafree: another process was lost; start all of them again with --resume"
    assert errors.splitlines()[-1].startswith(line)
    assert not (tmp_path / "0" / "results.json").exists()

    first, second = start_two(*tiny, "--resume")
    (output, errors), (silent, complaints) = (process.communicate(timeout=200) for process in (first, second))
    assert (first.returncode, second.returncode) == (0, 0), errors + complaints
    assert "Student, data-free" in output and "teacher" not in silent
    found, expected = (json.loads((folder / "results.json").read_text()) for folder in (tmp_path / "0", finished))
    assert found["environment"]["process_count"] == 2
    assert found["test_drives"] == expected["test_drives"]
    windows = max(np.max(counts) for counts in expected["test_drives"]["counts"].values())  # that a sum is over
    for name, method in expected["methods"].items():
        for metric, values in method.pop("by_drive").items():
            found_sums = found["methods"][name]["by_drive"][metric]
            np.testing.assert_allclose(found_sums, values, atol=1e-4 * windows)
        for metric, values in method.items():
            np.testing.assert_allclose(found["methods"][name][metric], values, atol=1e-4)
    assert not (tmp_path / "1").exists()


def test_what_the_first_process_refuses_ends_all_with_status_2_and_touches_nothing(start_two, tiny, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "thesis.tex").write_text("do not lose me")
    for process in start_two(*tiny):
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 2
        assert errors.splitlines()[-1].startswith("datafree: --out: expected a new or empty folder")
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "1").exists()


def test_a_process_without_the_data_ends_all_with_status_2_and_one_line(start_two, tiny, tmp_path):
    nowhere = tmp_path / "nowhere"
    for process in start_two(*tiny, second=["--source", "deepsense", "--data-dir", nowhere]):
        _, errors = process.communicate(timeout=100)  # they would wait longer for one another
        assert process.returncode == 2, errors
        expected = f"datafree: process 1: {nowhere}: expected a DeepSense folder, found nothing"
        assert errors.splitlines()[-1] == expected, errors


def test_port_in_use_is_refused(run, tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = "--coordinator", address, "--num-processes", 2, "--process-id", 0
        status, _, errors = run("--out", tmp_path / "run", *flags)
    assert status == 2
    assert errors.splitlines()[-1].startswith(f"datafree: --coordinator: expected a free port in {address}")
    assert not (tmp_path / "run").exists()
