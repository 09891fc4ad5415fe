"""Studies on several roads: a run for each, claims over all, and their report."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from beamkd.base import InputError
from beamkd.report import roads as report
from beamkd.report.__main__ import main as redraw
from beamkd.sim import Family
from experiments.common.folder import plain
from experiments.common.roads import check_roads, roads_of, study_roads
from experiments.common.study_flags import Study

AHEAD = {"Scenario1": 0.01, "Scenario8": 0.02, "Scenario9": 0.06}


def judged(difference, low, high):
    head = {"claim": "ours", "statement": "A beats B.", "metric": "top5", "better": "a", "worse": "b", "margin": 0.0}
    return head | {"seeds": 10, "drives": 12, "difference": difference, "low": low, "high": high}


def of_a_road(config):
    """In place of a study: leaves results, of which a claim on Scenario 1 by a single seed has no bounds."""
    ahead = AHEAD.get(config.out.name, 0.01)
    ends = (None, None) if config.seeds == 1 else (ahead - 0.003, ahead + 0.003)
    rows = {metric: [[0.5, 0.4]] for metric in ("top1", "top5", "power_ratio")}
    results = {
        "config": plain(config),
        "claims": [judged(ahead, *ends)],
        "labels": {"a": "ours", "b": "teacher"},
        "methods": {"a": rows, "b": rows},
    }
    results["tables"] = [{"title": "Main", "methods": ["b", "a"], "teacher": "b"}]
    config.out.mkdir(parents=True)
    (config.out / "results.json").write_text(json.dumps(results))


@pytest.fixture
def several(tmp_path):
    folders = tuple(tmp_path / name for name in AHEAD)
    return Study(source="deepsense", data_dir=folders, out=tmp_path / "run")


def test_each_road_has_a_run_of_its_own_and_claims_are_over_all(several, monkeypatch, capsys):
    study_roads(several, roads_of(several), of_a_road)
    found = json.loads((several.out / "results.json").read_text())
    assert list(found["roads"]) == list(AHEAD)
    for name, road in found["roads"].items():
        assert road == json.loads((several.out / "roads" / name / "results.json").read_text())
    (claim,) = found["claims"]
    each = np.array([*AHEAD.values()])
    low, high = stats.t.interval(0.95, 2, each.mean(), stats.sem(each))
    np.testing.assert_allclose([claim["difference"], claim["low"], claim["high"]], [0.03, low, high])
    np.testing.assert_allclose(claim["here"], [0.03 - 0.003 / 3**0.5, 0.03 + 0.003 / 3**0.5])
    report.write(several.out)
    text = (several.out / "report.md").read_text()
    assert f"| ours | ours against teacher | Top-5 | 0.0 | +3.00 [{100 * low:.2f}".replace("[-", "[−") in text
    assert "| +3.00 [+2.83, +3.17] | open | +1.00 | +2.00 | +6.00 |" in text
    assert "| Scenario9 | teacher | 45.0 | 45.0 | 45.0 |" in text
    kept = several.out.parent / "kept.md"
    monkeypatch.setattr("sys.argv", ["report", str(several.out), "--keep", str(kept)])
    redraw()
    assert kept.read_text() == text and json.loads(kept.with_suffix(".json").read_text())["claims"]
    assert len(report.console_tables(several.out)) == 1


def test_what_has_no_bounds_on_a_road_has_none_over_roads(several):
    single = dataclasses.replace(several, seeds=1)
    study_roads(single, roads_of(single), of_a_road)
    (claim,) = json.loads((several.out / "results.json").read_text())["claims"]
    assert [claim["low"], claim["high"], *claim["here"], claim["verdict"]] == [None, None, None, None, "open"]
    report.write(several.out)
    assert "| +3.00 [−∞, +∞] | +3.00 [−∞, +∞] | open |" in (several.out / "report.md").read_text()


def test_a_single_road_is_no_study_of_several():
    assert not roads_of(Study()) and not roads_of(Study(source="deepsense", data_dir=(Path("a"),)))


def test_streets_of_the_family_are_roads_with_seeds_of_their_own():
    roads = roads_of(Study(streets=2, first_street=5, seed=3, family=Family(drift=0.0)))
    assert list(roads) == ["street5", "street6"]
    for number, road in zip((5, 6), roads.values(), strict=True):
        assert road.street == Family(drift=0.0).street(number) and road.seed == 3 + 1000 * number
        assert not road.streets and not roads_of(road)


def test_streets_are_told_in_the_report(tmp_path):
    config = Study(streets=3, first_street=4, out=tmp_path / "run")
    study_roads(config, roads_of(config), of_a_road)
    report.write(config.out)
    text = (config.out / "report.md").read_text()
    assert "| street4 | 17.6 and 21.2, both ways | 33 | 0 | −0.17, 0.10 |" in text
    assert "| street6 | teacher | 45.0 | 45.0 | 45.0 |" in text


@pytest.mark.parametrize(("drives", "split"), [(9, "random"), (13, "inorder")])
def test_a_part_of_a_single_drive_is_refused_before_anything_is_studied(drives, split):
    """Nine drives are dealt out as 5, 1 and 3, thirteen in order as 9, 1 and 3."""
    with pytest.raises(InputError, match=rf"^street1: expected 2 drives or more in each part, found {drives} drives"):
        check_roads(roads_of(Study(streets=2, drives=drives, split=split)))
    check_roads(roads_of(Study(streets=2, drives=14, split=split)))


def test_drives_of_folders_are_counted(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        check_roads({"nowhere": Study(source="deepsense", data_dir=(tmp_path / "nowhere",))})


def test_streets_are_of_the_simulator():
    with pytest.raises(InputError, match="^--streets: expected none with --source deepsense, found 2$"):
        Study(streets=2, source="deepsense", data_dir=(Path("a"),))


def test_roads_of_one_name_are_refused():
    several = Study(source="deepsense", data_dir=(Path("a/Scenario8"), Path("b/Scenario8")))
    with pytest.raises(
        InputError, match="^--data-dir: expected folders of unlike names, a road each, found two of name"
    ):
        roads_of(several)
