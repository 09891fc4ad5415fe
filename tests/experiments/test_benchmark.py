import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from beamkd.base import InputError, Rows
from beamkd.models import GruStudent, layers
from beamkd.report.__main__ import main as draw_again
from beamkd.report.benchmark import console_tables, write
from experiments import benchmark
from experiments.benchmark import CASES, Benchmark, points, ratios, run
from experiments.benchmarks import camera as benchmark_camera
from experiments.benchmarks import data as benchmark_data
from experiments.benchmarks import networks as benchmark_networks
from experiments.benchmarks.networks import step_cost
from experiments.benchmarks.timing import Bench, Cost, Point
from experiments.common.flags import main
from experiments.datafree import DataFree
from experiments.datafree import defaults as datafree_defaults

ROOT = Path(__file__).parents[2]
BASELINE = {"torch": "2.0", "threads": 2, "batch": 64, "student_supervised": {"milliseconds_per_step": 6.0}}
RATES = {
    "matmul_flops_per_second": {"float32": 1e11},
    "memory_bytes_per_second": 2e10,
    "cache_bytes_per_second": 1e11,
}
FIELDS = {"batch", "members", "devices", "dtype", "milliseconds", "items_per_second", "compile_seconds", "flops"}
FIELDS |= {"flops_per_second", "matmul_flops_per_second", "fraction_of_matmul", "peak_bytes", "quartiles", "samples"}


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
    for name in ("report.md", "report.html", "scaling.png", "roofline.png", "config.json"):
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
    draw_again()
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


@pytest.fixture
def pipelines(monkeypatch):
    """What the pipeline does: forgets compiled programs, and runs configurations, each of which takes 6 s a seed."""
    configs = []

    def datafree(config):
        configs.append(config)
        seconds = {"total": 6.0 * config.seeds, "compile": 2.0, "phases": {"teacher": 1.0}}
        (config.out / "results.json").write_text(json.dumps({"seconds": seconds}))

    monkeypatch.setattr(benchmark_data.datafree, "run", datafree)
    monkeypatch.setattr(benchmark_data.jax, "clear_caches", lambda: configs.append("cleared"))
    return configs


def test_pipeline_is_the_data_free_experiment_with_its_own_seconds(pipelines):
    rows = list(CASES["pipeline"](bench(Point(64), seed=5, pipeline_seeds=(1, 4), pipeline_recipes=("paper",))))
    assert [(config.seeds, config.seed, config.quick) for config in pipelines[1::2]] == [(1, 5, False), (4, 5, False)]
    assert [row["members"] for row in rows] == [1, 4]
    assert [row["milliseconds"] for row in rows] == [6e3, 24e3]
    assert [row["seconds_per_seed"] for row in rows] == [6.0, 6.0]


def test_pipeline_runs_each_recipe_as_the_command_line_of_the_experiment_does_and_names_it(pipelines):
    asked = []
    for recipe in ("beamkd", "paper"):
        flags = ["--recipe", recipe, "--seeds", "2", "--seed", "5", "--devices", "1"]
        main("datafree", DataFree, asked.append, flags, defaults=datafree_defaults)
    rows = list(CASES["pipeline"](bench(Point(64), seed=5, pipeline_seeds=(2,))))
    assert [dataclasses.replace(config, out=None) for config in pipelines[1::2]] == asked
    assert [row["recipe"] for row in rows] == ["beamkd", "paper"]


def test_every_pipeline_compiles_for_itself(pipelines):
    list(CASES["pipeline"](bench(Point(64), pipeline_seeds=(1, 2))))
    assert len(pipelines) == 8 and set(pipelines[::2]) == {"cleared"}


def test_quick_pipeline_is_one_small_run(pipelines, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "_device_rates", lambda config, dtypes: RATES)
    run(Benchmark(cases="pipeline", quick=True, out=tmp_path / "run"))
    (config,) = pipelines[1::2]
    assert (config.recipe, config.seeds, config.quick) == ("beamkd", 1, True)
    assert "| beamkd | 1 | 1 | 6.00 |" in (tmp_path / "run" / "report.md").read_text()


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


def test_both_data_free_steps_are_set_beside_the_one_of_pytorch():
    def row(milliseconds):
        return {**dataclasses.asdict(Point(64)), "milliseconds": milliseconds}

    throughput = {"student_data_free": [row(1.0)], "student_data_free_teacher": [row(4.0)]}
    found = ratios(throughput, {"batch": 64, "milliseconds": {"student_data_free": 10.0}})
    assert {case: entry["ratio"] for case, (entry,) in found.items()} == {
        "student_data_free": 10.0,
        "student_data_free_teacher": 2.5,
    }
    assert {entry["pytorch_case"] for (entry,) in found.values()} == {"student_data_free"}


def test_the_teacher_runs_within_every_step_of_the_fair_case():
    batch, seen, steps, teacher = 64, 8, 11, benchmark_networks.TEACHER_CNN_GRU
    encode = batch * seen * (32 * 51 * teacher.embed + 51 * 32 * 5 * 16 + 106 * 16 * 5)
    recur = batch * steps * (teacher.embed + teacher.hidden) * 3 * teacher.hidden
    read_out = batch * steps * teacher.hidden * teacher.beams
    forward = 2 * (encode + recur + read_out)
    costs = [step_cost(case, batch, "float32") for case in ("student_data_free", "student_data_free_teacher")]
    assert forward <= costs[1].flops - costs[0].flops <= 1.3 * forward


def test_the_teacher_of_the_fair_case_answers_for_the_rows_of_the_step():
    workload = benchmark_networks._workload("student_data_free_teacher", 4, "float32", 12)
    batch, some = workload.task.take(workload.data, Rows(jnp.array([7, 2]), jnp.ones(2, bool)))
    _, everything = workload.task.take(workload.data, workload.train)
    answers, all_answers = some["teacher_logits"], everything["teacher_logits"]
    np.testing.assert_allclose(answers, all_answers[jnp.array([7, 2])], rtol=1e-5, atol=1e-6)
    assert answers.shape == (2, 11, 64) and batch.sensors["lidar"].shape == (2, 8, 216)


def test_quick_has_the_fair_case_only_beside_pytorch():
    assert "student_data_free_teacher" not in Benchmark(quick=True).chosen
    assert "student_data_free_teacher" in Benchmark(quick=True, against=Path("torch.json")).chosen
    assert "student_data_free_teacher" in Benchmark().chosen


def finished_results(folder, throughput, **parts):
    """A folder with the results of a benchmark on two devices of a CPU."""
    environment = {"backend": "cpu", "device_count": 2, "device_kind": "cpu", "cores": 2, "jax": "0.10"}
    results = {"experiment": "benchmark", "environment": environment, "rates": RATES, "throughput": throughput, **parts}
    (folder / "results.json").write_text(json.dumps(results))
    write(folder)
    return (folder / "report.md").read_text()


def timed(seconds, *some, **changes):
    """Rows of some points that took so long, of 1 GFLOP each."""
    cost, timing = Cost(1e9, 1e8), dataclasses.replace(bench(), rates={"float32": 1e11, "bfloat16": 1e11})
    return [timing.row(point, np.array([seconds]), 64, 1.0, cost, 2**20) | changes for point in some]


def test_report_marks_the_ratio_of_unlike_steps_and_says_where_the_like_one_is(tmp_path):
    throughput = {
        "student_supervised": timed(0.002, Point(64)),
        "student_data_free": timed(0.001, Point(64), Point(1)),
        "student_data_free_teacher": timed(0.004, Point(64), Point(1)),
    }
    milliseconds = {"student_supervised": 3.0, "student_data_free": 10.0}
    found = ratios(throughput, {"batch": 64, "milliseconds": milliseconds})
    text = finished_results(tmp_path, throughput, against={"ratios": found})
    last = {tuple(line.split(" | ")[:2]): line.split(" | ")[-1].strip(" |") for line in text.splitlines()}
    assert last["| student_supervised", "64"] == "1.50"
    assert last["| student_data_free", "64"] == "10.0†" and last["| student_data_free", "1"] == "-"
    assert last["| student_data_free_teacher", "64"] == "2.50‡"
    below = text[text.index("2.50‡") :].splitlines()
    assert any(line.startswith("† Not the same work") and "student_data_free_teacher" in line for line in below)
    assert any(line.startswith("‡ The same work") and "PyTorch's is its student_data_free" in line for line in below)
    (table,) = console_tables(tmp_path)
    assert "† Not the same work" in table.caption and "‡ The same work" in table.caption


def test_report_has_no_marks_without_a_ratio(tmp_path):
    text = finished_results(tmp_path, {"student_data_free": timed(0.001, Point(64))})
    assert "†" not in text and "‡" not in text
    assert console_tables(tmp_path)[0].caption is None


def test_the_widest_table_fits_a_terminal_of_120_characters(tmp_path):
    some = [Point(1024, 64, 8, dtype) for dtype in ("float32", "bfloat16")]
    rows = [row for point in some for row in timed(0.12345, point)]
    throughput = dict.fromkeys(("student_data_free", "teacher_cnn_gru_supervised"), rows)
    found = ratios(throughput, {"batch": 1024, "milliseconds": {"student_data_free": 800.0}})
    finished_results(tmp_path, throughput, against={"ratios": found})
    (table,) = console_tables(tmp_path)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(table)
    assert "…" not in shown.get() and "teacher_cnn_gru_supervised" in shown.get()


def test_report_names_the_recipe_of_each_pipeline(tmp_path, pipelines):
    rows = list(CASES["pipeline"](bench(Point(64), pipeline_seeds=(1,))))
    text = finished_results(tmp_path, {"pipeline": rows})
    assert "| beamkd | 1 | 1 | 6.00 |" in text and "| paper | 1 | 1 | 6.00 |" in text
    assert "--recipe" in text


def test_older_results_are_drawn_with_what_they_tell(tmp_path):
    """Before, there were no recipes, no products' rates, and shares of several CPU devices came out too small."""
    step = timed(0.02, Point(64), Point(64, 8), Point(64, 8, 2))
    for row in step:
        del row["matmul_flops_per_second"]
        row["fraction_of_matmul"] /= row["devices"]
    whole = timed(6.0, Point(64), seconds_per_seed=6.0, phases={})
    old = [{name: row[name] for name in ("batch", "members", "devices", "dtype")} | {"ratio": 9.0} for row in step[:1]]
    throughput = {"student_data_free": step, "pipeline": whole}
    text = finished_results(tmp_path, throughput, against={"ratios": {"student_data_free": old}})
    assert text.count(" | 50.0 % | ") == 3
    assert "| - | 1 | 1 | 6.00 |" in text and "9.00†" in text


@pytest.mark.parametrize(
    "flags",
    [
        ("--cases", "student"),
        ("--cases", "simulate,"),
        ("--batches", "0"),
        ("--batches", "64", "nan"),
        ("--batches", "64", "65537"),
        ("--batches",),
        ("--members", "1", "-2"),
        ("--members", "1.5"),
        ("--members", "1000000000000"),
        ("--pipeline-seeds", "0"),
        ("--pipeline-seeds", "1001"),
        ("--pipeline-recipes", "ours"),
        ("--pipeline-recipes",),
        ("--repeats", "0"),
        ("--repeats", "nan"),
        ("--repeats", "1" + 30 * "0"),
        ("--dtypes", "float8"),
        ("--devices", "0"),
        ("--devices", "-1", "--quick"),
        ("--devices", "1000"),
        ("--devices", "1000", "--quick"),
        ("--scenario", "0"),
        ("--seed", "-1"),
        ("--seed", str(2**31 - 19)),
        ("--data-dir",),
    ],
    ids=" ".join,
)
def test_bad_flag_is_one_line_that_names_it(flags, refused):
    assert flags[0] in refused(*flags).replace("_", "-")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "JSON"),
        ("[1]", '"batch"'),
        ('{"batch": 64}', "found none"),
        ('{"batch": 64, "generator": {"milliseconds_per_step": 0}}', "generator.milliseconds_per_step"),
        ('{"batch": 64, "generator": {"seconds": 1}}', "generator.milliseconds_per_step"),
        ('{"batch": 64, "generator": {"milliseconds_per_step": NaN}}', "generator.milliseconds_per_step"),
        ('{"batch": 64, "generator": {"milliseconds_per_step": -1}}', "generator.milliseconds_per_step"),
        ('{"batch": 64, "generator": {"milliseconds_per_step": true}}', "generator.milliseconds_per_step"),
        (
            '{"batch": 64, "generator": {"milliseconds_per_step": 1' + 400 * "0" + "}}",
            "generator.milliseconds_per_step",
        ),
        ('{"batch": true, "generator": {"milliseconds_per_step": 3}}', '"batch"'),
        ('{"batch": 48, "generator": {"milliseconds_per_step": 3}}', "found 48"),
    ],
)
def test_bad_baseline_is_refused(text, named, refused, tmp_path):
    (tmp_path / "torch.json").write_text(text)
    errors = refused("--against", tmp_path / "torch.json")
    assert "torch.json" in errors and named in errors


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")])
def test_too_little_memory_is_one_line_that_names_the_case(error, monkeypatch):
    def case(bench):
        raise error
        yield

    monkeypatch.setitem(CASES, "simulate", case)
    with pytest.raises(InputError, match="^simulate: expected --batches and --members that fit"):
        benchmark._time("simulate", bench())


def test_other_errors_of_a_case_are_not_taken_for_too_little_memory(monkeypatch):
    monkeypatch.setitem(CASES, "simulate", lambda bench: [1 / 0])
    with pytest.raises(ZeroDivisionError):
        benchmark._time("simulate", bench())


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


def test_a_camera_students_step_takes_neighbouring_windows_whose_masks_may_be_shared(monkeypatch):
    monkeypatch.setattr(benchmark_camera, "SIZE", 16)
    case = "camera_longterm_student_l3_shared"
    (row,) = CASES[case](bench(Point(3)))
    assert row["batch"] == 3 and row["milliseconds"] > 0 and row["peak_bytes"] > 4 * 107_193
    rows = Rows(jnp.arange(3), jnp.ones(3, bool))
    for shared in (False, True):
        batch = benchmark_camera._take(2, 6, shared, jnp.arange(4.0)[:, None, None], rows)
        seen = batch.sensors["masks"]
        seen = seen.frames[seen.rows] if shared else seen
        np.testing.assert_array_equal(seen[..., 0, 0], [[0, 1], [1, 2], [2, 3]])
        assert batch.labels.shape == (3, 7)
    baseline = {"batch": 3, "milliseconds": {"camera_longterm_student_l3": 2 * row["milliseconds"]}}
    assert ratios({case: [row]}, baseline)[case][0]["ratio"] == pytest.approx(2)
