import dataclasses
import errno
import json
from pathlib import Path

import jax
import pytest

from beamkd.inversion import GeneratorLoss
from experiments.common import flags as common_flags
from experiments.common.flags import Flags, load_drives, main
from experiments.common.recipes import RECIPES, Recipe
from experiments.common.run import environment
from experiments.datafree import DataFree, defaults, run

BAD = {
    "seeds": ["--seeds", "0"],
    "seed": ["--seed", "-1"],
    "drives": ["--drives", "0"],
    "dropout": ["--dropout", "1"],
    "generators": ["--generators", "0"],
    "hindsight": ["--hindsight", "--generator", "dense"],
    "resident": ["--resident", "-1"],
    "devices": ["--devices", "1000"],
    "batch-devices": ["--batch-devices", "1000"],
    "batch-devices of none": ["--batch-devices", "0"],
    "coordinator": ["--coordinator", "host", "--num-processes", "2", "--process-id", "0"],
    "coordinator's port": ["--coordinator", "host:70000", "--num-processes", "2", "--process-id", "0"],
    "num-processes": ["--num-processes", "2"],
    "num-processes missing": ["--num-processes", "0", "--coordinator", "host:1", "--process-id", "0"],
    "num-processes of a cluster": ["--num-processes", "2", "--coordinator", "auto"],
    "process-id": ["--process-id", "2", "--coordinator", "host:1", "--num-processes", "2"],
    "process-id missing": ["--process-id", "0"],
    "source": ["--source", "moon"],
    "data-dir": ["--source", "deepsense"],
    "data-dir for tfds": ["--source", "tfds"],
    "data-dir for sim": ["--data-dir", "folder"],
    "lidar": ["--lidar", "raycast"],
    "simulated for sim": ["--simulated", "lidar"],
    "split": ["--split", "sideways"],
    "scenario": ["--scenario", "0"],
    "teacher": ["--teacher", "transformer"],
    "temperature": ["--temperature", "0"],
    "alpha": ["--alpha", "1.5"],
    "sequences": ["--sequences", "0"],
    "held-out": ["--held-out", "-3"],
    "student-loss": ["--student-loss", "l1"],
    "epochs": ["--dfkd-fit.epochs", "0"],
    "not a number": ["--seeds", "many"],
    "learning_rate": ["--teacher-fit.learning-rate", "-1"],
    "l2": ["--teacher-fit.l2", "nan"],
    "metadata": ["--generator-loss.metadata", "-1"],
    "unknown": ["--no-such-flag", "1"],
    "street": ["--street.antennas", "0"],
    "beams for top-5": ["--street.beams", "4"],
    "variance of one example": ["--generator-fit.batch-size", "1"],
    "dropout nan": ["--dropout", "nan"],
    "alpha nan": ["--alpha", "nan"],
    "temperature inf": ["--temperature", "inf"],
    "temperature nan": ["--temperature", "nan"],
    "learning rate inf": ["--teacher-fit.learning-rate", "inf"],
    "last learning rate nan": ["--kd-fit.final-learning-rate", "nan"],
    "clip inf": ["--dfkd-fit.clip", "inf"],
    "layers inf": ["--generator-loss.layers", "inf"],
    "speed inf": ["--street.speed", "inf"],
    "lanes nan": ["--street.other-lanes", "5.8", "nan"],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_flag_is_one_line_that_names_it_and_nothing_is_written(name, refused, tmp_path):
    flags = BAD[name]
    errors = refused(*flags, "--out", tmp_path / "run")
    assert flags[0].lstrip("-").split(".")[-1].replace("-", "_") in errors.replace("-", "_")
    assert not (tmp_path / "run").exists()


def test_missing_folder_is_refused(refused, tmp_path):
    errors = refused("--source", "deepsense", "--data-dir", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert "nowhere" in errors


def test_several_folders_and_simulated_sensors_are_taken_from_the_command_line(monkeypatch, tmp_path):
    found = []
    words = ["--source", "deepsense", "--data-dir", "A", "B", "C", "--simulated", "lidar", "radar", "--seeds", "2"]
    main("datafree", DataFree, found.append, words, defaults)
    monkeypatch.setattr(common_flags, "read_deepsense", lambda *given, **options: (*given, options["simulated"]))
    assert found[0].seeds == 2
    folders = tuple(map(Path, "ABC"))
    assert load_drives(found[0], tmp_path) == (folders, None, ("lidar", "radar"))


def test_an_unknown_simulated_sensor_is_refused(refused, tmp_path):
    flags = ["--source", "deepsense", "--data-dir", tmp_path, "--simulated", "sonar", "--out", tmp_path / "run"]
    assert "simulated: expected names out of" in refused(*flags)


def test_missing_teacher_file_is_refused(refused, tmp_path):
    errors = refused("--teacher", tmp_path / "none.npz", "--drives", "8", "--out", tmp_path / "run")
    assert "none.npz" in errors


def test_teacher_of_other_scans_is_refused(refused, published, tmp_path):
    errors = refused("--teacher", published(rays=100), "--drives", "8", "--out", tmp_path / "run")
    assert "net.npz" in errors and "216 rays" in errors and "100" in errors


def test_too_few_drives_to_split_is_refused(refused, tmp_path):
    assert "2 drives" in refused("--drives", "2", "--out", tmp_path / "run")


@pytest.mark.parametrize("name", ["thesis.tex", "config.json"])
def test_folder_with_other_files_is_not_touched(name, refused, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / name).write_text("{}")
    assert "--out: expected a new or empty folder" in refused("--out", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", name}
    assert (tmp_path / name).read_text() == "{}"


@pytest.mark.parametrize("flags", [[], ["--resume"]], ids=["new", "resumed"])
@pytest.mark.parametrize("place", ["file", "file/run", "file/some/run"])
def test_a_folder_that_cannot_be_is_refused(place, flags, refused, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert "--out: expected a folder" in refused("--out", tmp_path / place, *flags)
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_folder_that_may_not_be_made_is_refused(refused, tmp_path, monkeypatch):
    def forbid(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", forbid)
    errors = refused("--out", tmp_path / "run")
    assert errors == f"datafree: --out: expected a folder to write to, found {tmp_path / 'run'}: Permission denied"


def test_resume_without_a_run_is_refused(refused, tmp_path):
    assert "--resume" in refused("--out", tmp_path / "none", "--resume")
    assert not (tmp_path / "none").exists()


def test_resume_of_damaged_configuration_is_refused(refused, tmp_path):
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in refused("--out", tmp_path, "--resume")


def test_resume_of_another_configuration_names_the_flag(refused, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"seeds": 7}))
    assert "--resume" in refused("--out", tmp_path, "--resume")


def test_help_shows_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main("datafree", DataFree, run, ["--help"], defaults)
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for flag in (
        "--source",
        "--data-dir",
        "--scenario",
        "--seeds",
        "--seed",
        "--split",
        "--out",
        "--quick",
        "--devices",
        "--batch-devices",
        "--coordinator",
        "--num-processes",
        "--process-id",
    ):
        assert flag in text
    for flag in (
        "--resume",
        "--resident",
        "--teacher",
        "--lidar",
        "--student-loss",
        "--generator-loss.metadata",
        "--dfkd-fit.epochs",
        "--recipe",
    ):
        assert flag in text


def test_a_recipe_gives_the_flags_that_are_not_given():
    """What the command line names wins over the recipe, and the recipe over nothing."""
    found = {}
    for words in ([], ["--recipe", "paper"], ["--recipe", "prior"], ["--recipe=paper", "--sequences", "7"]):
        main("datafree", DataFree, lambda config, key=tuple(words): found.update({key: config}), words, defaults)
    ours, paper, prior, changed = found.values()
    for config, name in ((ours, "beamkd"), (paper, "paper"), (prior, "prior")):
        assert config.recipe == name
        for field in dataclasses.fields(Recipe):
            assert getattr(config, field.name) == getattr(RECIPES[name], field.name)
    assert changed == dataclasses.replace(paper, sequences=7)
    assert paper.generator_loss == GeneratorLoss(1.0, 0.0, 0.0) and paper.sequences == 5000


@pytest.mark.parametrize("chosen", [None, "tensorfloat32"])
def test_products_are_of_float32_unless_the_user_chooses(chosen, monkeypatch):
    monkeypatch.delenv("JAX_DEFAULT_MATMUL_PRECISION", raising=False)
    if chosen:
        monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", chosen)
    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", chosen)
    try:
        main("datafree", DataFree, lambda config: None, [], defaults)
        assert environment()["matmul_precision"] == (chosen or "highest")
    finally:
        jax.config.update("jax_default_matmul_precision", before)


@pytest.mark.parametrize("chosen, kept", [(None, None), ("cuda", "cuda,cpu"), ("cpu", "cpu"), ("cuda,cpu", "cuda,cpu")])
def test_the_cpu_that_counts_operations_is_there_beside_what_the_user_chooses(chosen, kept):
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", chosen)
    try:
        main("datafree", DataFree, lambda config: None, [], defaults)
        assert jax.config.jax_platforms == kept
    finally:
        jax.config.update("jax_platforms", before)


def test_an_unknown_recipe_is_refused(refused, tmp_path):
    assert "recipe" in refused("--recipe", "stew", "--out", tmp_path / "run")


@pytest.mark.parametrize(("devices", "own"), [(None, None), (4, 2)])
def test_each_process_simulates_on_its_share_of_the_devices(devices, own, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(common_flags, "simulate", lambda key, street, drives, sensors, devices: devices)
    monkeypatch.setattr(common_flags, "simulate_chunks", lambda key, street, drives, sensors, devices: [devices])
    monkeypatch.setattr(common_flags, "store_drives", lambda folder, pieces: next(pieces))
    for resident in (0, 100):
        assert load_drives(Flags(devices=devices, resident=resident), tmp_path) == own
