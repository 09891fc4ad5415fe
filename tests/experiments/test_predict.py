"""Predictions frame by frame: of folders, of files as they appear, of standard input; against windows."""

import csv
import dataclasses
import io
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Drives
from beamkd.data import gather, make_windows, write_deepsense
from beamkd.data.inputs import taken_by_networks
from beamkd.models import GruStudent, PositionNetwork, save_network
from experiments.common.flags import main
from experiments.predict import Predict, run
from tests.deploy.networks import initial
from tests.experiments.conftest import ROOT

LAST = [*range(7, 14), 23, 24]
"""Frames of the folder that windows of eight end with."""


@pytest.fixture(scope="module")
def drives():
    """Drives of 14 and 11 frames; the second one lacks a slot after two."""
    rng = np.random.default_rng(0)
    scans = rng.uniform(1, 20, (25, 216)) * (rng.random((25, 216)) < 0.3)
    return Drives(
        sensors={"lidar": jnp.asarray(scans, jnp.float32)},
        power=jnp.asarray(rng.random((25, 64)), jnp.float32),
        position=jnp.zeros((25, 2)),
        drive=jnp.repeat(jnp.array([1, 2]), jnp.array([14, 11])),
        slot=jnp.array([*range(14), 0, 1, *range(3, 12)]),
    )


@pytest.fixture(scope="module")
def model():
    first = initial(GruStudent(), {"lidar": (8, 216)})
    return dataclasses.replace(first, params=jax.tree.map(lambda leaf: 3 * leaf, first.params))


@pytest.fixture(scope="module")
def network(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "student.safetensors"
    save_network(path, model)
    return path


@pytest.fixture
def folder(drives, tmp_path):
    """A folder of the drives with scans alone: no other file, and no column but those that order them."""
    write_deepsense(drives, tmp_path / "Scenario8")
    for name in ("mmWave_data", "GPS_data"):
        shutil.rmtree(tmp_path / "Scenario8" / "unit1" / name)
    keep(tmp_path / "Scenario8", "index", "unit1_lidar_SCR", "seq_index")
    return tmp_path / "Scenario8"


def keep(folder, *columns):
    """Only these columns of a folder's CSV."""
    with open(folder / "scenario8.csv", newline="") as file:
        table = [*csv.DictReader(file)]
    with open(folder / "scenario8.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)


def predict(*flags):
    main("predict", Predict, run, [*map(str, flags)])


def refused(capfd, *flags):
    with pytest.raises(SystemExit) as stop:
        predict(*flags)
    errors = capfd.readouterr().err.strip()
    assert stop.value.code == 2 and len(errors.splitlines()) == 1 and errors.startswith("predict: ")
    return errors


def table(text):
    lines = [*csv.DictReader(io.StringIO(text))]
    assert all(None not in line.values() and None not in line for line in lines)
    return lines


def beams(line, top=5):
    return np.array([[int(line[f"slot{slot}_beam_index{rank + 1}"]) for rank in range(top)] for slot in range(4)])


def probabilities(line, top=5):
    return np.array([[float(line[f"slot{slot}_probability{rank + 1}"]) for rank in range(top)] for slot in range(4)])


def logits_of(model, scans):
    """Of windows of scans [W, 8, 216]."""
    apply = jax.jit(lambda params, scans: model.module.apply(params, scans, future=3, slots=4).logits)
    return apply(model.params, taken_by_networks("lidar", scans))


def check(line, logits, top=5, temperature=1.0):
    """Whether a line says what logits [J + 1, M] do."""
    expected = jax.nn.softmax(logits / temperature)
    found = probabilities(line, top)
    np.testing.assert_allclose(found, -np.sort(-expected)[:, :top], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(np.asarray(expected), beams(line, top) - 1, 1), found, atol=1e-5)
    margins = [float(line[f"slot{slot}_margin"]) for slot in range(4)]
    np.testing.assert_allclose(margins, found[:, 0] - found[:, 1], atol=2e-5)


def test_lines_say_what_windows_do(drives, model, network, folder, tmp_path):
    flags = ["--top", 3, "--temperature", 0.5, "--out", tmp_path / "out.csv"]
    predict("--network", network, "--data-dir", folder, *flags)
    lines = table((tmp_path / "out.csv").read_text())
    assert [line["frame"] for line in lines] == [*map(str, [*range(1, 17), *range(18, 27)])]
    windows = make_windows(drives)
    assert np.asarray(windows.observed)[:, -1].tolist() == LAST
    rows = SimpleNamespace(index=np.arange(len(windows)), mask=np.ones(len(windows), bool))
    expected = logits_of(model, gather(windows, rows).sensors["lidar"])
    for last, logits in zip(LAST, expected, strict=True):
        check(lines[last], logits, top=3, temperature=0.5)
    for first in (0, 14, 16):  # of a drive and after a gap nothing has moved before
        scans = jnp.zeros((8, 216)).at[-1].set(drives.sensors["lidar"][first])
        check(lines[first], logits_of(model, scans[None])[0], top=3, temperature=0.5)


def test_onnx_says_the_same(model, network, folder, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
    pytest.importorskip("jax2onnx", reason="the extra deploy is not installed")
    from beamkd.deploy import stream_to_onnx, to_onnx

    found = {}
    (tmp_path / "student.stream.onnx").write_bytes(stream_to_onnx(model))
    for path in (network, tmp_path / "student.stream.onnx"):
        out = tmp_path / f"{path.name}.csv"
        predict("--network", path, "--data-dir", folder, "--out", out)
        found[path.suffix] = table(out.read_text())
    for ours, theirs in zip(*found.values(), strict=True):
        np.testing.assert_allclose(probabilities(ours), probabilities(theirs), atol=1e-5)

    (tmp_path / "windows.onnx").write_bytes(to_onnx(model))
    for bad in ("windows.onnx", "nowhere.onnx"):
        with pytest.raises(SystemExit) as stop:
            predict("--network", tmp_path / bad, "--data-dir", folder, "--out", tmp_path / "bad.csv")
        assert stop.value.code == 2 and not (tmp_path / "bad.csv").exists()


def test_a_published_network_is_taken(published, folder, capfd):
    predict("--network", published(), "--data-dir", folder, "--top", 64)
    lines = table(capfd.readouterr().out)
    assert len(lines) == 25
    assert (np.sort(beams(lines[0], 64)) == np.arange(1, 65)).all()
    np.testing.assert_allclose(probabilities(lines[0], 64).sum(-1), 1, atol=1e-4)


def test_a_bad_frame_is_said_and_leaves_a_gap(drives, model, network, folder, tmp_path, capfd):
    scans = sorted((folder / "unit1" / "lidar_SCR_data").iterdir(), key=lambda path: int(path.stem.split("_")[-1]))
    scans[3].unlink()
    scans[15].write_bytes(scans[15].read_bytes()[:1000])
    predict("--network", network, "--data-dir", folder)
    output, errors = capfd.readouterr()
    lines = table(output)
    assert len(lines) == 23
    first, second, last = errors.splitlines()
    assert first.startswith("predict: skipped 4: ") and "line 5 (index 4)" in first and "found nothing" in first
    assert second.startswith("predict: skipped 16: ") and "damaged" in second
    assert last == "predict: 23 frames, 2 skipped"
    after = jnp.zeros((8, 216)).at[-3:].set(drives.sensors["lidar"][4:7])
    check(next(line for line in lines if line["frame"] == "7"), logits_of(model, after[None])[0])


def test_without_index_and_drives_all_rows_are_one_drive(drives, model, network, folder, capfd):
    keep(folder, "unit1_lidar_SCR")
    predict("--network", network, "--data-dir", folder)
    lines = table(capfd.readouterr().out)
    assert [line["frame"] for line in lines] == [*map(str, range(1, 26))]
    check(lines[18], logits_of(model, drives.sensors["lidar"][None, 11:19])[0])


def test_a_path_that_leaves_the_folder_is_refused(network, folder, tmp_path, capfd):
    path = folder / "scenario8.csv"
    path.write_text(path.read_text().replace("./unit1/lidar_SCR_data/Lidar_data_3.mat", "../secret.mat"))
    errors = refused(capfd, "--network", network, "--data-dir", folder, "--out", tmp_path / "out.csv")
    assert "expected a path inside" in errors and "'../secret.mat'" in errors
    assert not (tmp_path / "out.csv").exists()


def test_rows_of_standard_input(drives, model, network, monkeypatch, capfd):
    scans = np.asarray(drives.sensors["lidar"])[:12]
    text = io.BytesIO()
    np.savetxt(text, scans)
    rows = text.getvalue().splitlines(keepends=True)
    bad = {
        2: b"\n",
        4: rows[4][:100] + b"\n",
        6: rows[6].replace(b"0.0", b"nan", 1),
        8: b"1 " * 20000 + b"\n",
        9: b"x\n",
    }
    for place, row in bad.items():
        rows.insert(place, row)
    rows.append(rows[0][:-1])  # cut off
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"".join(rows))))
    predict("--network", network, "--data-dir", "-")
    output, errors = capfd.readouterr()
    lines = table(output)
    good = [place for place in range(len(rows) - 1) if place not in bad]
    assert [line["frame"] for line in lines] == [str(place + 1) for place in good]
    named = re.findall(r"skipped (\d+): ", errors)
    assert [*map(int, named)] == [place + 1 for place in (*bad, len(rows) - 1)]
    check(lines[11], logits_of(model, scans[None, 4:12])[0])  # what is skipped leaves no gap


@pytest.fixture
def started(network, environment):
    """started(*flags) predicts in a process of its own, and gives it with the header of what it writes."""
    processes = []

    def start(*flags):
        command = [sys.executable, "-m", "experiments.predict", "--network", network, *flags]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, text=True, **pipes)
        processes.append(process)
        return process, process.stdout.readline()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_files_are_followed_until_sigterm(drives, model, network, started, tmp_path):
    scans = np.asarray(drives.sensors["lidar"])
    np.save(tmp_path / "scan_7.npy", scans[7])
    process, header = started("--data-dir", tmp_path, "--follow")
    bad = {9: b"", 12: scans.tobytes()[:900], 13: None, 15: scans[15] * np.nan, 20: scans[20, :100]}
    for number in range(8, 25):
        scan, path = bad.get(number, scans[number]), tmp_path / f"scan_{number}.npy"
        if isinstance(scan, bytes):
            path.write_bytes(scan)
        elif scan is not None:
            np.save(path, scan)
    good = [number for number in range(7, 25) if number not in bad]
    lines = [process.stdout.readline() for _ in good]
    np.save(tmp_path / "scan_2.npy", scans[2])
    said = [process.stderr.readline() for _ in range(6)]
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and output == ""
    assert errors == "predict: stopped after 13 frames, 6 skipped\n"
    found = table(header + "".join(lines))
    assert [line["frame"] for line in found] == [f"scan_{number}.npy" for number in good]
    assert [re.search(r"skipped scan_(\d+)\.npy: expected", line)[1] for line in said] == [*map(str, (*bad, 2))]
    check(found[-1], logits_of(model, scans[None, good[-8:]])[0])


def test_sigterm_ends_what_waits_for_a_row(drives, network, started):
    process, header = started("--data-dir", "-")
    np.savetxt(process.stdin, np.asarray(drives.sensors["lidar"])[:2])
    process.stdin.write("1 2 ")
    process.stdin.flush()
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    assert process.returncode == 0 and process.stdout.read() == ""
    assert process.stderr.read() == "predict: stopped after 2 frames, 0 skipped\n"
    assert len(table(header + "".join(lines))) == 2


def test_bad_input_is_one_line_with_status_2_and_nothing_is_written(network, folder, tmp_path, capfd):
    out = tmp_path / "out.csv"
    usual = {"--network": network, "--data-dir": folder, "--out": out}
    (tmp_path / "other.safetensors").write_bytes(b"no network")
    save_network(tmp_path / "one.safetensors", initial(PositionNetwork(), {"gps": (3, 2)}))
    save_network(tmp_path / "few.safetensors", initial(GruStudent(), {"lidar": (8, 100)}))
    for flags, expected in [
        ({"--network": tmp_path / "nowhere.safetensors"}, "nowhere.safetensors: expected a file"),
        ({"--network": tmp_path / "other.safetensors"}, "other.safetensors: expected a network of beamkd"),
        ({"--network": tmp_path / "one.safetensors"}, "one.safetensors: expected a network that encodes frames"),
        ({"--network": tmp_path / "few.safetensors"}, "lidar: expected 216 ranges, found [100]"),
        ({"--data-dir": tmp_path / "nowhere"}, "nowhere: expected a DeepSense folder"),
        ({"--data-dir": tmp_path / "nowhere", "--follow": None}, "--data-dir: expected a folder, found none"),
        ({"--data-dir": "-", "--scenario": 8}, "--scenario: expected it with a DeepSense folder only"),
        ({"--top": 65}, "--top: expected at most 64"),
        ({"--top": 0}, "top: expected 1 or more"),
        ({"--temperature": 0}, "--temperature: expected a finite number of more than 0"),
        ({"--out": tmp_path / "nowhere" / "out.csv"}, "--out: expected to write"),
        ({"--out": network}, "--out: expected a new file"),
    ]:
        words = [word for flag in (usual | flags).items() for word in flag if word is not None]
        assert expected in refused(capfd, *words)
        assert not out.exists()
    assert "data-dir" in refused(capfd, "--network", network)
    keep(folder, "index", "seq_index")
    assert "expected one column 'unit1_lidar_SCR'" in refused(capfd, "--network", network, "--data-dir", folder)
