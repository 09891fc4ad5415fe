import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beamkd import report
from beamkd.models import GruStudent, layers
from experiments import benchmark_data, benchmark_networks
from experiments.benchmark import CASES, Benchmark, points, ratios, run
from experiments.benchmark_networks import step_cost
from experiments.flags import main
from experiments.timing import Bench, Point

ROOT = Path(__file__).parents[2]
BASELINE = {"torch": "2.0", "threads": 2, "batch": 64, "student_supervised": {"milliseconds_per_step": 6.0}}
FIELDS = {"batch", "members", "devices", "dtype", "milliseconds", "items_per_second", "compile_seconds", "flops"}
FIELDS |= {"flops_per_second", "fraction_of_matmul", "peak_bytes", "quartiles", "samples"}


def bench(*some, **options):
    return Bench(points=some, dtypes=("float32",), repeats=1, rates={"float32": 1e11}, **options)


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory):
    """The folder of a short benchmark, and what it printed."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "torch.json").write_text(json.dumps(BASELINE))
    cases = "student_supervised,infer_student,simulate_beams,read_folder"
    flags = ["--quick", "--repeats", "2", "--cases", cases, "--against", folder / "torch.json", "--out", folder / "run"]
    command = [sys.executable, "-m", "experiments.benchmark", *map(str, flags)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


@pytest.fixture
def refused(capsys, tmp_path):
    """refused(*flags): the one line that the benchmark is refused with."""

    def refused(*flags):
        with pytest.raises(SystemExit) as stop:
            main("benchmark", Benchmark, run, [*map(str, flags), "--out", str(tmp_path / "run")])
        errors = capsys.readouterr().err.strip()
        assert stop.value.code == 2
        assert len(errors.splitlines()) == 1 and errors.startswith("benchmark: "), errors
        assert not (tmp_path / "run").exists()
        return errors

    return refused


def test_results_hold_every_case_with_every_field(finished):
    found = json.loads((finished[0] / "results.json").read_text())
    assert {"experiment", "config", "environment", "rates", "throughput", "seconds"} <= set(found)
    assert found["experiment"] == "benchmark"
    assert found["environment"]["cores"] >= 1
    assert set(found["throughput"]) == {"student_supervised", "infer_student", "simulate_beams", "read_folder"}
    for rows in found["throughput"].values():
        assert len(rows) == 1 and set(rows[0]) >= FIELDS
        low, high = rows[0]["quartiles"]
        assert 0 < low <= rows[0]["milliseconds"] <= high
    assert found["throughput"]["read_folder"][0]["flops"] is None
    step = found["throughput"]["student_supervised"][0]
    assert [found["against"]["ratios"]["student_supervised"][0]["ratio"]] == pytest.approx([6.0 / step["milliseconds"]])


def test_a_table_is_printed_and_report_and_figures_are_left(finished):
    folder, output = finished
    for name in ("report.md", "scaling.png", "roofline.png", "config.json"):
        assert (folder / name).stat().st_size > 100
    for case in ("student_supervised", "infer_student", "simulate_beams", "read_folder"):
        assert case in output and case in (folder / "report.md").read_text()
    assert max(map(len, output.split("ms: median")[0].splitlines())) <= 120
    assert "PyTorch" in output


def test_report_is_drawn_again_from_the_results(finished, monkeypatch):
    folder = finished[0]
    text = (folder / "report.md").read_text()
    for name in ("report.md", "scaling.png", "roofline.png"):
        (folder / name).unlink()
    monkeypatch.setattr(sys, "argv", ["report", str(folder)])
    report.main()
    assert (folder / "report.md").read_text() == text
    assert (folder / "scaling.png").exists() and (folder / "roofline.png").exists()


def test_rows_agree_with_themselves_and_members_multiply_the_work():
    alone, three = CASES["infer_student"](bench(Point(5), Point(5, members=3)))
    assert (alone["members"], three["members"]) == (1, 3)
    assert three["flops"] == 3 * alone["flops"]
    for row in (alone, three):
        seconds = row["milliseconds"] / 1e3
        assert row["items_per_second"] * seconds == pytest.approx(5 * row["members"])
        assert row["flops_per_second"] * seconds == pytest.approx(row["flops"])
        assert row["fraction_of_matmul"] == pytest.approx(row["flops_per_second"] / 1e11)
        assert row["peak_bytes"] > 4 * 5 * 8 * 216


def test_a_training_step_is_timed_over_the_steps_of_an_epoch(monkeypatch):
    monkeypatch.setattr(benchmark_networks, "sample", lambda call, repeats: np.array([8.0, 2.0, 4.0]))
    (row,) = CASES["student_supervised"](bench(Point(3)))
    assert row["milliseconds"] == pytest.approx(4.0 / benchmark_networks.MOST_STEPS * 1e3)
    assert row["quartiles"] == pytest.approx([3.0 / 40 * 1e3, 6.0 / 40 * 1e3])
    assert row["items_per_second"] == pytest.approx(3 * 40 / 4.0)


def test_operations_of_a_students_step_are_its_matrix_products_and_little_more():
    batch, seen, steps, student = 64, 8, 11, GruStudent()
    encode = (batch * seen + 1) * 216 * student.embed
    recur = batch * steps * (student.embed + student.hidden) * 3 * student.hidden
    read_out = batch * steps * student.hidden * student.beams
    # Forward, and backward for the weights; for the inputs, too, but for the scans'.
    products = 2 * (2 * encode + 3 * recur + 3 * read_out)
    assert products <= step_cost("student_supervised", batch, "float32").flops <= 1.3 * products


def test_operations_of_a_large_batch_count_all_of_its_frames_which_are_encoded_in_a_loop(monkeypatch):
    found = step_cost("teacher_cnn_gru_supervised", 128, "float32").flops
    monkeypatch.setattr(layers, "PIECE", 128 * 8)
    monkeypatch.setattr(benchmark_networks, "COUNTED", 128)
    assert found == pytest.approx(step_cost.__wrapped__("teacher_cnn_gru_supervised", 128, "float32").flops, rel=1e-3)


def test_simulated_frames_are_counted_without_padding():
    (row,) = CASES["simulate_beams"](bench(Point(64)))
    frames = row["items_per_second"] * row["milliseconds"] / 1e3
    assert 64 * 12 <= round(frames) < 64 * 64
    assert row["batch"] == 64


def test_pipeline_is_the_data_free_experiment_with_its_own_seconds(monkeypatch):
    configs = []

    def datafree(config):
        configs.append(config)
        seconds = {"total": 6.0 * config.seeds, "compile": 2.0, "phases": {"teacher": 1.0}}
        (config.out / "results.json").write_text(json.dumps({"seconds": seconds}))

    monkeypatch.setattr(benchmark_data.datafree, "run", datafree)
    rows = list(CASES["pipeline"](bench(Point(64), seed=5, pipeline_seeds=(1, 4))))
    assert [(config.seeds, config.seed, config.quick) for config in configs] == [(1, 5, False), (4, 5, False)]
    assert [row["members"] for row in rows] == [1, 4]
    assert [row["milliseconds"] for row in rows] == [6e3, 24e3]
    assert [row["seconds_per_seed"] for row in rows] == [6.0, 6.0]


def test_one_size_is_varied_at_a_time():
    found = points((1, 64, 256), (1, 8), ("float32",), devices=1)
    assert found == (Point(64), Point(1), Point(256), Point(64, 8))
    found = points((16,), (2,), ("float32", "bfloat16"), devices=3)
    axes = (Point(16, 2), Point(16, 8), Point(16, 8, 2), Point(16, 8, 3))
    assert found == axes + tuple(dataclasses.replace(point, dtype="bfloat16") for point in axes)
    assert points((64,), (1,), ("float32",), devices=16)[-1] == Point(64, 16, 16)


def test_ratios_are_to_a_step_of_one_member_at_the_same_batch():
    def row(batch, members, milliseconds):
        return {**dataclasses.asdict(Point(batch, members)), "milliseconds": milliseconds}

    throughput = {"student_supervised": [row(64, 1, 2.0), row(64, 8, 4.0), row(256, 1, 9.0)], "simulate": []}
    found = ratios(throughput, {"batch": 64, "milliseconds": {"student_supervised": 6.0, "generator": 1.0}})
    assert list(found) == ["student_supervised"]
    assert [(entry["members"], entry["ratio"]) for entry in found["student_supervised"]] == [(1, 3.0), (8, 12.0)]


@pytest.mark.parametrize(
    "flags",
    [
        ("--cases", "student"),
        ("--cases", "simulate,"),
        ("--batches", "0"),
        ("--members", "1", "-2"),
        ("--pipeline-seeds", "0"),
        ("--repeats", "0"),
        ("--dtypes", "float8"),
        ("--devices", "1000"),
        ("--seed", "-1"),
        ("--data-dir",),
    ],
    ids=" ".join,
)
def test_bad_flag_is_one_line_that_names_it(flags, refused):
    assert flags[0].lstrip("-") in refused(*flags).replace("_", "-")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "JSON"),
        ("[1]", '"batch"'),
        ('{"batch": 64}', "found none"),
        ('{"batch": 64, "generator": {"milliseconds_per_step": 0}}', "generator.milliseconds_per_step"),
        ('{"batch": 64, "generator": {"seconds": 1}}', "generator.milliseconds_per_step"),
        ('{"batch": 64, "generator": {"milliseconds_per_step": NaN}}', "generator.milliseconds_per_step"),
        ('{"batch": 48, "generator": {"milliseconds_per_step": 3}}', "found 48"),
    ],
)
def test_bad_baseline_is_refused(text, named, refused, tmp_path):
    (tmp_path / "torch.json").write_text(text)
    errors = refused("--against", tmp_path / "torch.json")
    assert "torch.json" in errors and named in errors


def test_missing_baseline_is_refused(refused, tmp_path):
    assert "none.json" in refused("--against", tmp_path / "none.json")


def test_a_folder_that_cannot_be_read_is_refused_before_anything_is_timed(refused, tmp_path):
    errors = refused("--cases", "read_folder", "--data-dir", tmp_path / "nowhere")
    assert "nowhere" in errors


def test_help_names_every_case(capsys):
    with pytest.raises(SystemExit) as stop:
        main("benchmark", Benchmark, run, ["--help"])
    assert stop.value.code == 0
    assert set(CASES) <= set(re.findall(r"\w+", capsys.readouterr().out))
