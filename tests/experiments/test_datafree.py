import json
import shutil
import signal
import time
from itertools import pairwise

import jax
import numpy as np
import pytest

from beamkd.models import GruTeacher, PatchStudent, load_network, load_published
from beamkd.report.watch import read_drives
from experiments.common.dataset import Trained, evaluate_networks, keep_networks, open_dataset
from experiments.common.folder import MARKER, WRITTEN
from experiments.common.methods import load_teacher, untrained
from experiments.common.run import Run
from experiments.datafree import DataFree

METRICS = {"top1", "top2", "top3", "top5", "dba", "power_ratio"}
PHASES = ("teacher", "generator", "scratch", "kd", "dfkd")
NETWORKS = set(PHASES)


def results(folder):
    return json.loads((folder / "results.json").read_text())


def lines(folder):
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def test_every_epoch_has_a_line_with_every_seed(finished):
    entries = lines(finished)
    for phase in PHASES:
        mine = [entry for entry in entries if entry["phase"] == phase]
        assert [entry["epoch"] for entry in mine] == list(range(1, len(mine) + 1))
        assert len(mine) <= 12
        assert all(len(entry["loss"]) == 2 for entry in mine)
    generator = [entry for entry in entries if entry["phase"] == "generator"]
    assert len(generator) == 12
    assert {"metadata", "activation", "entropy"} <= set(generator[0])


def test_a_teacher_that_is_trained_is_as_large_as_published(finished):
    assert results(finished)["models"]["teacher"]["parameters"] == 96_640


def test_training_beats_chance(finished):
    for method in ("teacher", "scratch"):
        assert np.mean(results(finished)["methods"][method]["top5"]) > 2 * 5 / 64


def test_killed_and_resumed_gives_the_same_figures_and_log_lines(start, run, finished, half, tiny, tmp_path):
    """In the phase that needs all others; in that of the generator the tests of processes kill."""
    folder = half(tmp_path / "killed")
    process = start(*tiny, "--out", folder, "--resume")
    deadline = time.monotonic() + 120
    while not any(entry["phase"] == "dfkd" for entry in lines(folder)):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "results.json").exists()
    text = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(text[:-3]) + text[-3][:20])  # a kill came before these were written
    status, _, errors = run(*tiny, "--out", folder, "--resume")
    assert status == 0, errors
    assert results(folder)["methods"] == results(finished)["methods"]
    assert lines(folder) == lines(finished)


def test_resume_with_other_flags_is_refused_and_touches_nothing(refused, finished, tiny, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "other")
    before = (folder / "results.json").read_bytes()
    errors = refused(*tiny, "--out", folder, "--resume", "--alpha", "0.5")
    assert "alpha" in errors and "0.6" in errors and "0.5" in errors
    assert (folder / "results.json").read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped"])
def test_damaged_checkpoint_is_refused(refused, finished, tiny, tmp_path, damage):
    folder = shutil.copytree(finished, tmp_path / "damaged")
    path = max((folder / "checkpoints" / "teacher").rglob("d/*"), key=lambda path: path.stat().st_size)
    contents = bytearray(path.read_bytes())
    if damage == "flipped":
        contents[len(contents) // 2] ^= 0xFF
    path.write_bytes(contents[: {"truncated": len(contents) // 2, "emptied": 0, "flipped": None}[damage]])
    assert "checkpoints/teacher" in refused(*tiny, "--out", folder, "--resume")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A run of three seeds that trains nothing, its data, those of tiny runs, and its keys."""
    config = DataFree(drives=8, seeds=3, split="inorder", out=tmp_path_factory.mktemp("opened") / "run")
    run = Run("datafree", config)
    return run, *open_dataset(run, config)


def test_a_loaded_teacher_is_the_same_for_every_seed(published, opened):
    (run, dataset, _), path = opened, published()
    teacher = load_teacher(dataset, 3, path)
    expected = load_published(path)[1]
    jax.tree.map(lambda found, one: np.testing.assert_array_equal(found, [one] * 3), teacher.params, expected)
    top5 = evaluate_networks(run, dataset, {"teacher": Trained(teacher)})[0]["teacher"]["top5"]
    np.testing.assert_array_equal(top5, [top5[0]] * 3)


def test_networks_of_all_seeds_are_left_where_one_asks_for_them(opened):
    run, dataset, keys = opened
    student = untrained(keys, dataset, PatchStudent(beams=dataset.beams), "student")
    keep_networks(run, DataFree(seeds=3, seed=5, keep_seeds="all"), {"student": student})
    names = ["student.safetensors", "student.seed6.safetensors", "student.seed7.safetensors"]
    assert sorted(path.name for path in (run.folder / "networks").iterdir()) == names
    for member, name in enumerate(names):
        expected = jax.tree.map(lambda leaf, member=member: leaf[member], student.params)
        found = load_network(run.folder / "networks" / name).params
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("named", ["", "networks/teacher.safetensors"], ids=["folder", "file"])
def test_the_teacher_of_a_run_serves_another(named, opened, finished):
    run, dataset, _ = opened
    teacher = load_teacher(dataset, 3, finished / named)
    assert teacher.module == GruTeacher()
    found = evaluate_networks(run, dataset, {"teacher": Trained(teacher)})[0]["teacher"]
    for metric in METRICS:
        expected = results(finished)["methods"]["teacher"][metric][0]
        np.testing.assert_allclose(found[metric], [expected] * 3, atol=1e-5)


def test_what_is_no_teacher_is_refused(refused, finished, tmp_path):
    flags = ["--drives", "8", "--out", tmp_path / "run", "--teacher"]
    generator = finished / "networks" / "generator.safetensors"
    assert "expected a network of lidar, found a SceneGenerator of noise" in refused(*flags, generator)
    assert "networks/teacher.safetensors: expected a file with a network" in refused(*flags, tmp_path)
    shapes = {f"conv{i + 1}": (out, into, 3, 3) for i, (into, out) in enumerate(pairwise((1, 8, 16, 8, 4, 2)))}
    shapes |= {"fc1": (256, 512), "fc2": (128, 256), "fc3": (64, 128)}
    arrays = {f"{name}.weight": np.zeros(shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "radar.npz", **arrays, **{f"{name}.bias": np.zeros(shape[0]) for name, shape in shapes.items()})
    assert "expected a network of lidar, found a RadarLeNet" in refused(*flags, tmp_path / "radar.npz")


def test_streamed_on_one_device_gives_the_figures_of_two_devices_that_hold_all(run, finished, tiny, tmp_path):
    folder = tmp_path / "streamed"
    status, _, errors = run(*tiny, "--resident", "0", "--out", folder, devices=1)
    assert status == 0, errors
    counts = [results(run)["environment"]["device_count"] for run in (folder, finished)]
    assert counts == [1, 2]
    for name, method in results(finished)["methods"].items():
        for metric in METRICS:
            np.testing.assert_allclose(results(folder)["methods"][name][metric], method[metric], atol=1e-4)
    assert [line["epoch"] for line in lines(folder)] == [line["epoch"] for line in lines(finished)]


@pytest.fixture(scope="module")
def quick(run, published, tiny, tmp_path_factory):
    """The folder of a quick run by our recipe, tiny, and with a teacher that is loaded; and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    ours = ("--recipe", "beamkd", "--search.streets", "20", "--search.drives", "1")
    status, output, errors = run("--quick", *tiny, *ours, "--teacher", published(), "--out", folder)
    assert status == 0, errors
    return folder, output


def test_quick_run_leaves_complete_results_and_report(quick):
    folder, output = quick
    found = results(folder)
    assert {"experiment", "config", "environment", "data", "models", "methods", "seconds"} <= set(found)
    assert found["experiment"] == "datafree"
    assert set(found["methods"]) == {"teacher", "scratch", "kd", "dfkd"}
    for method in found["methods"].values():
        assert set(method) >= METRICS
        assert np.shape(method["top1"]) == (1, 4)
        for name in METRICS:
            assert 0 <= np.min(method[name]) <= np.max(method[name]) <= 1
        assert method["top1"][0] <= method["top2"][0] <= method["top3"][0] <= method["top5"][0]
    assert found["models"]["student"]["parameters"] == 8_138
    assert set(found["data"]["windows"]) == set(found["data"]["drives"]) == {"train", "val", "test"}
    assert sum(found["data"]["drives"].values()) == found["config"]["drives"]
    assert {"total", "compile", "phases"} <= set(found["seconds"])
    pictures = ("accuracy.png", "sequences.png", "drive.png")
    for name in ("report.md", "report.html", *pictures, "config.json"):
        assert (folder / name).stat().st_size > 100
    assert "Student, data-free" in output


def test_what_a_run_leaves_is_what_the_next_one_removes(quick, finished):
    for folder in (quick[0], finished):
        assert {path.name for path in folder.iterdir()} <= {*WRITTEN, MARKER}


def test_a_loaded_teacher_is_inverted_and_not_trained(quick):
    folder, _ = quick
    found = results(folder)
    assert "epochs" not in found["methods"]["teacher"]
    assert np.shape(found["zero_shot"]["top5"]) == (1, 4)
    assert {entry["phase"] for entry in lines(folder)} == set(PHASES) - {"teacher", "generator"}


def test_a_run_by_our_recipe_says_which_streets_its_sequences_are_of(quick):
    folder, _ = quick
    (family,) = results(folder)["streets"]
    assert 6 <= family["lane"][0] <= family["lane"][1] < 35 and 0 <= family["two_lanes"] <= 1
    least, greatest = family["lane"]
    row = f"| distance of the lane, m | {least:.3g} to {greatest:.3g} |"
    assert row in (folder / "report.md").read_text() and not (folder / "generator.png").exists()


def test_a_run_leaves_its_networks(finished, quick):
    for folder, names in ((finished, NETWORKS), (quick[0], NETWORKS - {"generator"})):
        assert {path.name for path in (folder / "networks").iterdir()} == {f"{name}.safetensors" for name in names}
    assert load_network(finished / "networks" / "dfkd.safetensors").module == PatchStudent()
    made = load_network(finished / "networks" / "generator.safetensors")
    scenes = made.module.apply(made.params, np.ones((2, *made.inputs["noise"]), np.float32))
    assert scenes.along.shape == (2, 1, 8)


def test_drives_to_watch_have_the_beams_of_the_figures(finished):
    kept = read_drives(finished / "watch.npz")
    with np.load(finished / "figures.npz") as figures:
        own = (kept["drive"] == figures["drive"]) & (kept["beams"][0, :, 0, 0] >= 0)
        np.testing.assert_array_equal(kept["power"][own], figures["power"])
        for beams, name in zip(kept["beams"], kept["networks"], strict=True):
            same = beams[own, 0, 0] == figures[f"beam_{name}"]
            assert same.mean() > 0.95  # programs round differently
