"""The report of the data-free experiment, from the files of a made-up run."""

import json

import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.report import datafree
from beamkd.report.datafree_figures import METHODS as NETWORKS

SLOTS, FRAMES, BEAMS = 2, 5, 8
METRICS = {"top1": 0.5, "top2": 0.6, "top3": 0.7, "top5": 0.75, "dba": 0.8, "power_ratio": 0.875}
FIGURES = {"accuracy.png", "generator.png", "sequences.png", "drive.png"}


@pytest.fixture
def run(tmp_path):
    """run(generator_steps=…) writes the files of a run of two seeds: its folder."""

    def run(generator_steps=3, **data):
        rng = np.random.default_rng(0)
        shares = {name: [[share, share - 0.25]] * 2 for name, share in METRICS.items()}
        results = {
            "experiment": "datafree",
            "config": {"seeds": 2, "seed": 0, "lidar": "measured", "generator_loss": {"metadata": 1.0, "layers": 0.0}},
            "data": {
                "source": "sim",
                "scenario": None,
                "windows": {"train": 9, "val": 2, "test": 4},
                "drives": {"train": 3, "val": 1, "test": 2},
                **data,
            },
            "models": {name: {"parameters": 10, "flops_per_window": 20.0} for name in ("teacher", "student")},
            "methods": {name: {**shares, "epochs": [3, 4]} for name in NETWORKS},
            "seconds": {"total": 3.0, "compile": 1.0, "phases": {"teacher": 2.0}},
        }
        (tmp_path / "results.json").write_text(json.dumps(results))
        lines = [{"phase": "teacher", "epoch": 1, "loss": [1.0, 1.0]}]
        lines += [
            {"phase": "generator", "epoch": step, "loss": [1 / step] * 2, "metadata": [1 / step] * 2}
            for step in range(1, generator_steps + 1)
        ]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        scans = rng.uniform(5, 15, (4, 8, 216))
        beams = {f"beam_{name}": rng.integers(0, BEAMS, FRAMES) for name in NETWORKS}
        power = rng.uniform(1, 2, (FRAMES, BEAMS))
        np.savez(tmp_path / "figures.npz", real=scans, generated=scans, power=power, drive=7, **beams)
        return tmp_path

    return run


def test_accuracy_dba_and_power_have_tables_by_slot(run):
    folder = run()
    datafree.write(folder)
    text = (folder / "report.md").read_text()
    for title, now, later in (("Top-1", 50, 25), ("Top-5", 75, 50), ("DBA", 80, 55), ("Power", 87.5, 62.5)):
        table = text.split(f"## {title} by slot, percent\n\n")[1].splitlines()
        assert table[0] == "| Network | now | +1 |" and table[2] == f"| Teacher | {now:.1f} | {later:.1f} |"
    assert {path.name for path in folder.glob("*.png")} == FIGURES
    assert all(f"]({name})" in text for name in FIGURES)
    page = (folder / "report.html").read_text()
    assert page.count("<img ") == len(FIGURES) and '<td style="text-align:right">62.5</td>' in page


def test_an_untrained_generator_has_no_figure_of_its_training(run):
    folder = run(generator_steps=0)
    datafree.write(folder)
    text = (folder / "report.md").read_text()
    assert {path.name for path in folder.glob("*.png")} == FIGURES - {"generator.png"}
    assert "generator.png" not in text and "sequences.png" in text


def test_a_folder_is_said_to_hold_what_it_says_of_itself(run):
    folder = run(source="deepsense", scenario=8, origin="written by beamkd, not recorded")
    datafree.write(folder)
    text = (folder / "report.md").read_text()
    said = "Scenario 8 (written by beamkd, not recorded). Receive powers, positions and LiDAR: as in the folder."
    assert f"Data: a folder in the form of DeepSense 6G {said}" in text
    assert "measured" not in text and "recorded by" not in text


def test_results_that_lack_what_a_report_needs_are_refused(run):
    folder = run()
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match=r"metrics\.jsonl: expected"):
        datafree.write(folder)
