"""The study of several sensors: its methods and claims, and on a tiny scale from flags to a report."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import multimodal
from experiments.common.dataset import open_dataset
from experiments.common.flags import main
from experiments.common.run import Run
from experiments.multimodal import Multimodal, Source, _claims, _grids, run

TINY = [
    *("--sensors", "lidar,gps", "--drives", "8", "--seeds", "2", "--split", "inorder"),
    *("--teacher-fit.epochs", "12", "--student-fit.epochs", "4"),
]
TRAINED = {"teacher", "teacher_dropout", "teacher_gps", "scratch_gps", "kd_gps"}
FAILING = {f"{kind}_{failure}_gps" for kind in ("plain", "dropout") for failure in ("missing", "noisy")}


@pytest.fixture
def few_methods(monkeypatch):
    """A grid of what compiles soon."""

    def grid(source):
        found = multimodal._sensors_grid(source)
        chosen = [[method for method in each.methods if method.name in TRAINED | FAILING] for each in found]
        return [dataclasses.replace(each, methods=methods) for each, methods in zip(found, chosen, strict=True)]

    monkeypatch.setattr(multimodal, "_grids", lambda config: [grid])


@pytest.mark.usefixtures("few_methods")
def test_a_study_goes_from_flags_to_a_report(tmp_path):
    folder = tmp_path / "run"
    main("multimodal", Multimodal, run, [*TINY, "--out", str(folder)])
    found = json.loads((folder / "results.json").read_text())
    assert set(found["methods"]) == TRAINED | FAILING
    top5 = {name: np.array(method["top5"]) for name, method in found["methods"].items()}
    assert all(values.shape == (2, 4) for values in top5.values())
    assert np.abs(top5["plain_missing_gps"] - top5["teacher"]).max() > 0
    assert set(found["models"]) == TRAINED
    for model in found["models"].values():
        assert {"parameters", "flops_per_window", "ms_per_window", "seconds_per_epoch"} <= set(model)
    for claim in found["claims"]:
        if claim["metric"] == "top5":
            expected = (top5[claim["better"]] - top5[claim["worse"]]).mean()
            np.testing.assert_allclose(claim["difference"], expected, atol=1e-6)
    assert {claim["claim"] for claim in found["claims"]} == {"fusion", "kd", "failure"}
    for name in ("report.md", "report.html", "fusion.png", "frontier.png", "failing.png", "accuracy.png"):
        assert (folder / name).stat().st_size > 100
    assert {path.stem for path in (folder / "networks").iterdir()} == TRAINED


def test_claims_are_of_methods_that_the_grids_have(tmp_path):
    config = Multimodal(drives=8, split="inorder", seeds=1, sensors=("lidar", "gps"), grid="all", out=tmp_path / "run")
    source = Source(Run("multimodal", config), *open_dataset(Run("multimodal", config), config), config)
    methods = {method.name: method for grid in _grids(config) for each in grid(source) for method in each.methods}
    named = {side for claim in _claims(source.dataset) for side in (claim.better, claim.worse)}
    assert named <= set(methods)
    assert {name for name, method in methods.items() if method.data_free} == {"dfkd_lidar", "dfkd_gps"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sensors", "lidar"], "--sensors: expected two or more, found lidar"),
        (["--sensor-dropout", "1"], "--sensor-dropout: expected 0 or more and less than 1, found 1.0"),
        (["--alpha", "2"], "--alpha: expected 0 to 1, found 2.0"),
        (["--neighbours", "0"], "neighbours: expected 1 or more, found 0"),
        (["--temperature", "0"], "--temperature: expected a finite number of more than 0, found 0.0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_flags_are_one_line_with_status_2(flags, told, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main("multimodal", Multimodal, run, [*flags, "--out", str(tmp_path / "run")])
    errors = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and told in errors and len(errors.splitlines()) == 1
    assert not (tmp_path / "run").exists()
