"""The study end to end on a tiny scale, and that its grids hold what its claims compare."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beamkd import priors
from beamkd.search import StreetSearch
from beamkd.sim import Family, Street
from experiments.common import study_grids
from experiments.common.dataset import open_dataset
from experiments.common.distillation import Distillation
from experiments.common.flags import main
from experiments.common.methods import origins_of, sequences_of, simulated_sequences
from experiments.common.run import Run
from experiments.common.study_grids import GRIDS
from experiments.study import CLAIMS, Study, run

ROOT = Path(__file__).parents[2]
SMALL = {"sequences": 192, "held-out": 64, "generator-fit.epochs": 4, "dfkd-fit.epochs": 12}
TINY = [  # data and students as in tiny runs of the data-free experiment: what was compiled for these serves again
    *("--drives", "8", "--seeds", "2", "--split", "inorder"),
    *("--teacher-fit.epochs", "2", "--scratch-fit.epochs", "12", "--kd-fit.epochs", "12"),
    *(
        word
        for recipe in ("paper", "beamkd", "scenes")
        for flag, value in SMALL.items()
        for word in (f"--{recipe}.{flag}", str(value))
    ),
    *("--beamkd.search.rounds", "1", "--beamkd.search.streets", "20", "--beamkd.search.drives", "1"),
]
MAIN = {"teacher", "scratch", "kd", "dfkd_paper", "dfkd_beamkd", "noise", "sparse_noise", "blobs", "street", "streets"}

BASELINES = {"occupancy"} | {
    f"position_{method}{moving}" for method in ("table", "neighbours", "network") for moving in ("", "_moving")
}


TRANSFER = {f"{how}_{drives}" for how in ("alone", "tuned", "replayed", "distilled") for drives in (1, 3, 10)}

FEW = {"teacher", "scratch", "dfkd_paper", "dfkd_beamkd"}
"""Of each kind of these one or two; controls of made-up scans differ in a function."""

PROGRAM = f"""
import dataclasses, sys
from experiments.common import study_grids
from experiments.common.flags import main
from experiments.study import Study, run

def few(source):
    (whole,) = study_grids._main_grid(source)
    return [dataclasses.replace(whole, methods=[method for method in whole.methods if method.name in {FEW}])]

study_grids.GRIDS["main"] = few
main("study", Study, run, sys.argv[1:])
"""


def test_main_grid_leaves_methods_claims_and_a_report(environment, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", PROGRAM, *TINY, "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "results.json").read_text())
    assert set(found["methods"]) == FEW
    for method in found["methods"].values():
        assert np.shape(method["top1"]) == np.shape(method["power_ratio"]) == (2, 4)
    assert set(found["data_free"]) == {"dfkd_paper", "dfkd_beamkd"}
    methods = {name: np.array(method["top5"]) for name, method in found["methods"].items()}
    for claim in found["claims"]:
        if claim["metric"] == "top5":
            expected = (methods[claim["better"]] - methods[claim["worse"]]).mean()
            np.testing.assert_allclose(claim["difference"], expected, atol=1e-6)  # metrics are float32
            assert claim["drives"] == len(found["test_drives"]["number"]) == found["data"]["drives"]["test"]
            assert claim["low"] <= claim["difference"] <= claim["high"]
            assert claim["verdict"] in ("confirmed", "refuted", "open")
    assert {claim["claim"] for claim in found["claims"]} == {"a", "ours"}
    for name in ("report.md", "report.html", "report.tex", "accuracy.png", "differences.png"):
        assert (folder / name).stat().st_size > 100


def test_methods_of_a_position_stand_in_one_table(tmp_path, monkeypatch):
    """Those of the grid that are not trained, for the others compile for long; and the teacher, as always."""
    chosen = [f"position_{method}{moving}" for method in ("table", "neighbours") for moving in ("", "_moving")]

    def grid(source):
        (whole,) = study_grids._baselines_grid(source)
        return [dataclasses.replace(whole, methods=[each for each in whole.methods if each.name in chosen])]

    monkeypatch.setitem(GRIDS, "baselines", grid)
    main("study", Study, run, [*TINY, "--grid", "baselines", "--out", str(tmp_path / "run")])
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(found["methods"]) == {"teacher", *chosen}
    for name in chosen:
        assert np.shape(found["methods"][name]["top5"]) == (2, 4)
        assert (tmp_path / "run" / "networks" / f"{name}.safetensors").exists()
    for method in ("table", "neighbours"):
        assert np.mean(found["methods"][f"position_{method}"]["top5"]) > 3 * 5 / 64  # chance: 5 / 64
        still, moving = (found["methods"][f"position_{method}{suffix}"]["top1"] for suffix in ("", "_moving"))
        np.testing.assert_allclose(np.array(still)[:, 0], np.array(moving)[:, 0], atol=0.02)  # but for equal scores
        assert np.abs(np.array(still)[:, 3] - np.array(moving)[:, 3]).max() > 0
    report = (tmp_path / "run" / "report.md").read_text()
    (header,) = [line for line in report.splitlines() if line.startswith("| Method | Data-free")]
    assert [cell.strip() for cell in header.split("|")[3:9]] == ["Top-1", "Top-2", "Top-3", "Top-5", "DBA", "Power"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A study of which nothing is trained."""
    config = Study(drives=8, split="inorder", seeds=2, devices=1, out=tmp_path_factory.mktemp("study") / "none")
    run = Run("study", config)
    return Distillation(run, *open_dataset(run, config), config)


@pytest.fixture(scope="module")
def comparisons(source):
    """The comparisons of all grids."""
    return {name: grid(source) for name, grid in GRIDS.items()}


def test_simulated_sequences_are_as_many_and_as_long_as_a_recipe_says(source, monkeypatch):
    monkeypatch.setattr(priors, "DRIVES", 2)
    recipe = dataclasses.replace(source.config.beamkd, sequences=192, held_out=64)
    common = source.run, source.keys, source.dataset
    scans = np.asarray(simulated_sequences(*common, lambda drives: Street(), recipe).sensors["lidar"])
    assert scans.shape == (2, 256, 11, 216)
    prior = dataclasses.replace(recipe, search=StreetSearch(rounds=0))
    families = origins_of(*common, None, None, prior)  # the owner is asked for nothing
    assert families == [Family()] * 2
    other = np.asarray(sequences_of(*common, families, prior).sensors["lidar"])
    assert other.shape == scans.shape and not np.array_equal(other, scans)
    assert other.max() > 1.5 * scans.max()  # in the family there are wider roads
    assert all(len(np.unique(member.reshape(256, -1), axis=0)) == 256 for member in scans)  # none twice
    near = dataclasses.replace(Family(), lane=(6.0, 6.5))
    own = np.asarray(sequences_of(*common, [near, Family()], prior).sensors["lidar"])  # each seed its own streets
    assert own.shape == other.shape and np.median(own[0][own[0] > 0]) < 0.8 * np.median(own[1][own[1] > 0])


def test_every_claim_compares_methods_of_the_grids(comparisons):
    names = {method.name for grid in comparisons.values() for compared in grid for method in compared.methods}
    sides = [side for claim in CLAIMS for side in (claim.better, claim.worse)]
    named = {name for side in sides for name in ((side,) if isinstance(side, str) else side)}
    assert names >= named - {"scenes"}  # a control of other sensors than LiDAR


def test_the_grids_hold_what_the_study_asks_for(comparisons):
    names = {
        grid: {method.name for compared in found for method in compared.methods} for grid, found in comparisons.items()
    }
    assert names["main"] == MAIN
    subsets = ["none", "metadata", "activation", "entropy", "metadata_activation", "metadata_entropy"]
    subsets += ["activation_entropy", "metadata_activation_entropy"]
    assert names["generator"] >= {f"loss_{subset}" for subset in subsets}
    assert names["generator"] >= {"ours_no_hindsight", "ours_rounds_0", "scenes_dense", "scenes_untrained"}
    assert names["student"] >= {"paper_mse", "paper_kl_1", "paper_kl_2", "paper_kl_4", "paper_real_selection"}
    assert names["student"] >= {"beamkd_real_selection", "kd_0.3_1", "kd_0.9_4", "student_8", "student_64"}
    assert names["teacher"] >= {"gru_teacher", "gru_dfkd_paper", "gru_dfkd_beamkd", "dfkd_paper"}
    assert names["baselines"] == {"teacher", "gru_teacher", "scratch", *BASELINES}
    assert names["transfer"] == {"teacher", "streets", *TRANSFER}
    for found in comparisons.values():
        for compared in found:
            assert len({method.label for method in compared.methods}) == len(compared.methods)
            assert compared.axis is None or len(compared.values) == len(compared.methods)
            for method in compared.methods:
                sees_data = method.name.startswith(("teacher", "scratch", "kd", "gru_teacher", *BASELINES, *TRANSFER))
                assert method.data_free == (not sees_data) or ("real_selection" in method.name and not method.data_free)


def test_a_student_chosen_by_real_windows_is_not_called_data_free(comparisons):
    methods = {method.name: method for compared in comparisons["student"] for method in compared.methods}
    assert not methods["paper_real_selection"].data_free
    assert methods["paper_kl_2"].data_free


@pytest.mark.parametrize("flags", [["--grid", "everything"], ["--drives", "9", "--resident", "8"]], ids=" ".join)
def test_bad_flags_are_one_line_with_status_2(flags, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main("study", Study, run, [*flags, "--out", str(tmp_path / "run")])
    errors = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and len(errors.splitlines()) == 1 and flags[0] in errors
    assert not (tmp_path / "run").exists()
