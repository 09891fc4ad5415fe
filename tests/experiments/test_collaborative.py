"""The study of collaborative learning: from flags to a report, killed and resumed by round, and what is refused."""

import json
import re

import numpy as np
import pytest

from beamkd.collab import STRATEGIES, UnlikeNodes
from beamkd.training import checkpoints
from experiments.collaborative import GRIDS, LABELS, Collaborative, _claims, _play, run
from experiments.common import rounds
from experiments.common.collab_study import Study
from experiments.common.flags import main

TINY = [
    *("--sensors", "gps", "--sizes", "small", "--drives", "10", "--seeds", "2", "--split", "inorder", "--nodes", "3"),
    *("--rounds", "2", "--epochs", "1", "--windows", "32", "--teacher-fit.epochs", "2"),
]


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collaborative") / "run"
    main("collaborative", Collaborative, run, [*TINY, "--strategies", "local,fedmd", "--out", str(folder)])
    return folder


def test_results_hold_metrics_of_nodes_and_what_crossed(finished):
    found = results(finished)["methods"]
    assert set(found) == {"local", "best_node", "fedmd", "teacher"}
    for name in ("local", "fedmd"):
        method = found[name]
        assert np.shape(method["top5"]) == (2, 4) and len(method["nodes"]) == 3 and method["rounds"] == 2
        mean = np.mean([node["top5"] for node in method["nodes"]], axis=0)
        np.testing.assert_allclose(method["top5"], mean, atol=1e-6)
        assert method["curve"]["rounds"] == [1, 2] and np.shape(method["curve"]["top5"]) == (2, 2)
        np.testing.assert_allclose(np.array(method["curve"]["top5"])[:, -1], np.mean(method["top5"], -1), atol=1e-5)
    assert found["local"]["bytes_up"] == found["local"]["bytes_down"] == [0, 0]
    logits = 32 * 4 * 64 * 4
    assert all(2 * 3 * logits < sent < 2 * 3 * logits + 2000 for sent in found["fedmd"]["bytes_up"])
    best = [max(np.mean(node["top5"][seed]) for node in found["local"]["nodes"]) for seed in range(2)]
    assert all(np.mean(found["best_node"]["top5"][seed]) <= best[seed] + 1e-9 for seed in range(2))
    assert [node["sensor"] for node in results(finished)["nodes"]] == ["gps"] * 3


def test_the_report_says_what_strategies_cost(finished):
    report = (finished / "report.md").read_text()
    for title in ("What strategies cost", "Beams that nodes know, and others", "Nodes, as the first seed has them"):
        assert f"## {title}" in report
    (row,) = [line for line in report.splitlines() if line.startswith("| FedMD |") and len(line.split("|")) == 13]
    up = float(row.split("|")[5].replace(",", ""))
    np.testing.assert_allclose(up, np.mean(results(finished)["methods"]["fedmd"]["bytes_up"]) / 1e3, rtol=0.01)
    for name in ("report.html", "bytes.png", "nodes.png", "rounds.png", "map.png"):
        assert (finished / name).stat().st_size > 100


def stop_after_a_round(flags, of, monkeypatch):
    """Run a study until a strategy's first round is in its checkpoint."""
    saved = checkpoints.save

    def stop(folder, name, *rest):
        saved(folder, name, *rest)
        if name == of:
            raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "INTERVAL", 0.0)
    with monkeypatch.context() as stopping, pytest.raises(SystemExit):
        stopping.setattr(checkpoints, "save", stop)
        main("collaborative", Collaborative, run, flags)


def test_stopped_after_a_round_and_resumed_gives_the_same_figures(finished, tmp_path, monkeypatch):
    flags = [*TINY, "--strategies", "local,fedmd", "--out", str(tmp_path / "run")]
    stop_after_a_round(flags, "fedmd", monkeypatch)
    assert not (tmp_path / "run" / "results.json").exists()
    main("collaborative", Collaborative, run, [*flags, "--resume"])
    assert results(tmp_path / "run")["methods"] == results(finished)["methods"]
    assert results(tmp_path / "run")["claims"] == results(finished)["claims"]


def test_a_node_that_lags_still_does_so_after_a_stop(tmp_path, monkeypatch):
    flags = [*TINY, "--strategies", "fedavg", "--faults.lag", "0", "--out"]
    main("collaborative", Collaborative, run, [*flags, str(tmp_path / "whole")])
    stop_after_a_round([*flags, str(tmp_path / "run")], "fedavg", monkeypatch)
    main("collaborative", Collaborative, run, [*flags, str(tmp_path / "run"), "--resume"])
    assert results(tmp_path / "run")["methods"] == results(tmp_path / "whole")["methods"]


class UnequalNodes:
    """In place of a study: plays nothing, and refuses FedAvg."""

    def __init__(self, config):
        self.config, self.run, self.said = config, self, []

    def play(self, setting):
        if setting.strategy == "fedavg":
            raise UnlikeNodes("fedavg: expected nodes with equal networks, found 2 kinds")
        return setting.name

    def say(self, text):
        self.said.append(text)


def test_strategies_that_need_equal_networks_are_left_out_unless_they_are_named():
    reason = "fedavg: expected nodes with equal networks, found 2 kinds"
    every, named = Collaborative(), Collaborative(strategies=("local", "fedavg"))
    study = UnequalNodes(every)
    played, left_out = _play(study, GRIDS["strategies"](every))
    assert set(played) == set(STRATEGIES) - {"fedavg"} and left_out == {"fedavg": reason}
    assert len(study.said) == 1 and reason in study.said[0]
    with pytest.raises(UnlikeNodes, match=f"^{reason}$"):
        _play(UnequalNodes(named), GRIDS["strategies"](named))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--nodes", "8"], r"--nodes: expected at most the 7 drives, found 8"),
        (["--strategies", "gossip"], r"--strategies: expected some of local, .*, found gossip"),
        (["--aggregate", "mode"], r"--aggregate: expected one of mean, trimmed, .*, found mode"),
        (["--sizes", "huge"], r"--sizes: expected some of small, large, found huge"),
        (["--alpha-dirichlet", "0"], r"--alpha-dirichlet: expected a finite number of more than 0, found 0.0"),
        (["--faults.drop", "1"], r"faults: expected a probability to drop out of 0 or more and less than 1, found 1.0"),
        (["--noise", "1", "--clip", "0"], r"noise\.clip: expected a finite number of more than 0, found 0.0"),
        (["--rates.up", "0"], r"up: expected 1 or more, found 0.0"),
        (["--partition", "dirichlet", "--nodes", "300"], r"--nodes: expected windows for each of 300, found none for"),
        (["--partition", "place"], r"--partition place: expected several folders, or --stations, found a single place"),
        (["--stations", "11"], r"--stations: expected at most 10, found 11"),
        (["--graph", "GRAPH", "--strategies", "mutual"], r"--graph: expected 3 x 3 numbers in .*, found 2 x 3"),
        (["--graph", "NOWHERE", "--strategies", "mutual"], r"--graph: expected rows of 0 and 1 in .*, found: .*"),
    ],
)
def test_bad_flags_are_one_line_with_status_2(flags, told, capsys, tmp_path):
    (tmp_path / "graph.txt").write_text("0 1 1\n1 0 1\n")
    paths = {"GRAPH": str(tmp_path / "graph.txt"), "NOWHERE": str(tmp_path / "nowhere.txt")}
    flags = [paths.get(flag, flag) for flag in flags]
    with pytest.raises(SystemExit) as stopped:
        main("collaborative", Collaborative, run, [*TINY, *flags, "--out", str(tmp_path / "run")])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err.strip()
    assert len(errors.splitlines()) == 1 and errors.startswith("collaborative: ")
    assert re.search(told, errors), errors


def test_the_first_node_and_the_centre_have_the_first_sensor_of_the_flags():
    config = Collaborative(sensors=("lidar", "camera", "gps"), sizes=("small",), nodes=4)
    kinds = Study(None, None, None, config).kinds
    assert {(kind.sensor, number) for kind, number in kinds.items()} == {("lidar", 2), ("masks", 1), ("gps", 1)}
    assert next(iter(kinds)).sensor == "lidar"


@pytest.mark.parametrize("grid", GRIDS)
def test_settings_of_a_grid_have_names_and_labels_of_their_own(grid):
    settings = GRIDS[grid](Collaborative(nodes=10))
    assert len({setting.name for setting in settings}) == len({setting.label for setting in settings}) == len(settings)
    assert set(LABELS) == set(STRATEGIES)


def test_claims_compare_strategies_of_the_study():
    names = {side for claim in _claims(dict.fromkeys([])) for side in (claim.better, claim.worse)}
    assert names <= {*STRATEGIES, "best_node"}
