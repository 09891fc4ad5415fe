"""`--source tfds`: the same windows, splits and keys as where the data come from, and one line for bad folders."""

import contextlib
import shutil
import types

import jax
import numpy as np
import pytest

from beamkd.data import on_host, open_drives
from beamkd.report.results import data_source
from experiments.common import flags as common_flags
from experiments.common.dataset import describe, open_dataset
from experiments.common.flags import Flags, main
from experiments.common.study_flags import Study
from experiments.study import run as run_study
from tests.data.tfds.prepare import DRIVES, SEED


@pytest.fixture
def open_with(prepared, monkeypatch, tmp_path):
    """open_with(**flags): the dataset that these flags name, with what is said of it."""
    drives = jax.tree.map(np.array, open_drives(prepared / "drives"))  # those of `simulate`, which takes its time

    def simulate(key, street, count, sensors, devices):
        assert (count, street) == (DRIVES, common_flags.Street()) and key == jax.random.key(SEED)
        return jax.device_put(drives)

    monkeypatch.setattr(common_flags, "simulate", simulate)

    def open_with(**flags):
        config = Flags(**flags, seeds=2)
        run = types.SimpleNamespace(phase=contextlib.nullcontext, say=print, drives=tmp_path / "kept")
        dataset, keys = open_dataset(run, config)
        return dataset, keys, describe(config, dataset)

    return open_with


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype and np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("split", ["random", "inorder"])
def test_the_street_gives_the_same_dataset_from_the_simulator_and_from_its_files(split, prepared, open_with):
    simulated, keys, _ = open_with(drives=DRIVES, split=split)
    folder = prepared / "datasets" / "beamkd_street"
    dataset, own_keys, data = open_with(source="tfds", data_dir=(folder,), split=split)
    same(dataset.windows, simulated.windows)
    same(dataset.split, simulated.split)
    assert (keys == own_keys).all()
    assert data["source"] == "tfds" and data["scenario"] is None and not data["streamed"]


def test_a_deepsense_folder_gives_the_same_dataset_read_directly_and_as_tfds(prepared, open_with):
    read, _, _ = open_with(source="deepsense", data_dir=(prepared / "scenario",), scenario=9)
    dataset, _, data = open_with(source="tfds", data_dir=(prepared / "datasets" / "deepsense6g",))
    same(dataset.windows, read.windows)
    same(dataset.split, read.split)
    said = data_source({"data": data, "config": {"lidar": "measured"}})
    assert said.startswith("a TFDS dataset (deepsense6g/scenario9/1.0.0, written by beamkd: simulated")


def test_datasets_beyond_the_limit_are_streamed_and_resumed_from_the_run_s_folder(prepared, open_with, tmp_path):
    flags = {"source": "tfds", "data_dir": (prepared / "datasets" / "beamkd_street",)}
    resident, _, _ = open_with(**flags, resident=DRIVES)
    kept, _, data = open_with(**flags, resident=1)
    assert not on_host(resident.windows) and on_host(kept.windows) and data["streamed"]
    same(kept.windows, resident.windows)
    marker = tmp_path / "kept" / "power.npy"
    before = marker.stat().st_mtime_ns
    again, _, _ = open_with(**flags, resident=1, resume=True)
    same(again.windows, resident.windows)
    assert marker.stat().st_mtime_ns == before


@pytest.mark.parametrize("folder", ["nowhere", "file", "empty", "damaged", "version"])
def test_bad_folders_are_one_line_and_status_2(folder, refused, prepared, tmp_path):
    (tmp_path / "file").write_text("drives")
    (tmp_path / "empty").mkdir()
    source = prepared / "datasets" / "beamkd_street" / "nine" / "1.0.0"
    for name in ("damaged", "version"):
        shutil.copytree(source, tmp_path / name)
    (path,) = (tmp_path / "damaged").glob("*-test.array_record-*")
    path.write_bytes(path.read_bytes()[:-100])
    info = tmp_path / "version" / "dataset_info.json"
    info.write_text(info.read_text().replace('"version": "1.0.0"', '"version": "0.9.0"'))
    errors = refused("--source", "tfds", "--data-dir", tmp_path / folder, "--out", tmp_path / "run")
    assert f"{tmp_path / folder}" in errors


def test_a_study_says_that_a_dataset_is_too_large_for_it(prepared, capsys, tmp_path):
    flags = ["--source", "tfds", "--data-dir", prepared / "datasets" / "beamkd_street", "--resident", 1]
    with pytest.raises(SystemExit) as stop:
        main("study", Study, run_study, [str(flag) for flag in (*flags, "--out", tmp_path / "run")])
    assert stop.value.code == 2
    assert "study: --data-dir: expected data that --resident lets live on the device" in capsys.readouterr().err
