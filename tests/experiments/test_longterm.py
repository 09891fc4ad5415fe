"""The long-term study: its methods and claims, and on a tiny scale from flags to a report."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.models import SensorStudent, SensorTeacher
from beamkd.sim import simulate
from experiments import longterm
from experiments.common.dataset import open_dataset
from experiments.common.flags import main
from experiments.longterm import COLLABORATIVE, GRIDS, LABELS, LONG_TERM, LongTerm, Source, run

TINY = [
    *("--grid", "collaborative", "--drives", "8", "--seeds", "2", "--mask-size", "32"),
    *("--teacher-fit.epochs", "2", "--student-fit.epochs", "2"),
]
FEW = ("teacher_first", "teacher", "scratch", "kd_both")


@pytest.fixture
def soon_compiled(monkeypatch):
    """Few methods, networks that compile in seconds, and masks of a street that no camera was rendered for."""

    def load_drives(config, folder):
        drives = simulate(jax.random.key(0), config.street, config.drives, ("gps",))
        places = np.arange(32) - 16 - np.asarray(drives.position[:, 1:])
        masks = np.broadcast_to((np.abs(places) < 3)[:, None], (len(places), 32, 32))
        return drives.replace(sensors={"masks": jnp.packbits(jnp.asarray(masks), axis=-1)})

    monkeypatch.setattr(longterm, "open_dataset", functools.partial(open_dataset, load_drives=load_drives))
    sizes = {"channels": (3, 4), "hidden": 5, "sensors": ("masks",)}
    monkeypatch.setattr(longterm, "CollaborativeTeacher", functools.partial(SensorTeacher, embed=6, **sizes))
    monkeypatch.setattr(longterm, "CollaborativeStudent", functools.partial(SensorStudent, embed=4, **sizes))

    def grid(source):
        (whole,) = longterm._collaborative_grid(source)
        return [dataclasses.replace(whole, methods=[each for each in whole.methods if each.name in FEW])]

    monkeypatch.setitem(GRIDS, "collaborative", (grid, COLLABORATIVE))


@pytest.mark.usefixtures("soon_compiled")
def test_a_study_goes_from_flags_to_a_report(tmp_path):
    main("longterm", LongTerm, run, [*TINY, "--out", str(tmp_path / "run")])
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(found["methods"]) == set(found["models"]) == set(FEW)
    for method in found["methods"].values():
        assert np.shape(method["top1"]) == (2, 4)
    assert [claim["better"] for claim in found["claims"] if claim["metric"] == "top5"] == ["teacher", "kd_both"]
    history = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"codes", "states", "labels"} <= set(next(line for line in history if line["phase"] == "kd_both"))
    for name in ("report.md", "frontier.png", "accuracy.png", "networks/kd_both.safetensors"):
        assert (tmp_path / "run" / name).stat().st_size > 100


@pytest.mark.parametrize(("name", "claims"), [("longterm", LONG_TERM), ("collaborative", COLLABORATIVE)])
def test_claims_are_of_methods_that_the_grids_have(name, claims):
    @dataclasses.dataclass
    class Beams:
        beams: int = 64

    grid, own = GRIDS[name]
    (table,) = grid(Source(None, Beams(), None, LongTerm(grid=name)))
    methods = [method.name for method in table.methods]
    assert methods == list(dict.fromkeys(methods)) and set(methods) == set(LABELS[name])
    assert own is claims and {side for claim in claims for side in (claim.better, claim.worse)} <= set(methods)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sensors", "lidar"], "--sensors: expected camera alone, found lidar"),
        (["--mask-size", "16"], "--mask-size: expected 32 or more for the teachers, found 16"),
        (["--alpha", "-1"], "--alpha: expected 0 to 1, found -1.0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_flags_are_one_line_with_status_2(flags, told, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main("longterm", LongTerm, run, [*flags, "--out", str(tmp_path / "run")])
    errors = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and told in errors and len(errors.splitlines()) == 1
    assert not (tmp_path / "run").exists()
