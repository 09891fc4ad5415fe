"""What is given away, end to end on a tiny scale; noise on metadata, and who the candidates are."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Metadata
from beamkd.data import deal, make_windows
from beamkd.sim import Street, simulate
from experiments.common.flags import main
from experiments.privacy import Privacy, candidates, label_of, noisy, run

ROOT = Path(__file__).parents[2]

TINY = [  # data and students as in tiny runs of the study: what was compiled for these serves again
    *("--drives", "8", "--seeds", "2", "--split", "inorder", "--teacher-fit.epochs", "2", "--kd-fit.epochs", "12"),
    *("--beamkd.sequences", "192", "--beamkd.held-out", "64"),
    *("--beamkd.dfkd-fit.epochs", "12", "--reference-fit.epochs", "2", "--few", "--noise", "0.3"),
    *("--beamkd.search.rounds", "1", "--beamkd.search.streets", "20", "--beamkd.search.drives", "1"),
]


def test_a_run_leaves_tests_networks_the_road_and_a_report(environment, tmp_path):
    command = [sys.executable, "-m", "experiments.privacy", *TINY, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    networks = {"teacher", "kd", "dfkd", "noise0.3_dfkd"}
    assert set(results["methods"]) == networks
    assert set(results["data_free"]) == {"dfkd", "noise0.3_dfkd"}
    assert set(results["tests"]) == networks | {"metadata", "noise0.3_metadata"}
    for test in results["tests"].values():
        for measure in ("area", "caught"):
            assert 0 <= test[measure]["mean"] <= 1
            assert test[measure]["low"] <= test[measure]["mean"] <= test[measure]["high"]
    assert len(results["road"]["found"]) == 2 and results["road"]["true"]["lane"] == 9.7
    report = (tmp_path / "run" / "report.md").read_text()
    for said in ("student, data-free, noise 0.3", "metadata, noise 0.3", "distance of the lane, m", "membership.png"):
        assert said in report
    assert (tmp_path / "run" / "membership.png").stat().st_size > 10_000


def test_noise_is_in_spreads_of_each_unit_and_without_deviation_there_is_none():
    summary = Metadata(jnp.full(4000, 3.0), jnp.full(4000, 4.0), {"codes": Metadata(jnp.zeros(4000), jnp.ones(4000))})
    found = noisy(jax.random.key(0), summary, 0.5)
    for own, was in ((found, summary), (found.layers["codes"], summary.layers["codes"])):
        spread = np.sqrt(was.variance)
        np.testing.assert_allclose(np.std((own.mean - was.mean) / spread), 0.5, rtol=0.05)
        np.testing.assert_allclose(np.mean(own.variance / was.variance), 1 + 0.25, rtol=0.05)  # of (1 + n)²
    assert abs(np.corrcoef(found.mean, found.layers["codes"].mean)[0, 1]) < 0.1
    same = noisy(jax.random.key(0), summary, 0.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), same, summary)


def test_candidates_are_the_windows_for_training_and_for_the_test():
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    dataset = deal(keys, make_windows(simulate(jax.random.key(0), Street(), 10)))
    rows, members = candidates(dataset)
    for seed in range(3):
        for part, own in ((dataset.split.train, members), (dataset.split.test, ~members)):
            expected = np.asarray(part.index)[seed][np.asarray(part.mask)[seed]]
            np.testing.assert_array_equal(rows.index[seed][rows.mask[seed] & own[seed]], expected)


def test_names_are_told_in_words():
    assert label_of("dfkd") == "student, data-free" and label_of("few10_teacher") == "teacher, 10 drives"
    assert label_of("noise0.1_metadata") == "metadata, noise 0.1"


@pytest.mark.parametrize(
    "flags, said",
    [(["--few", "0"], "--few: expected 1 or more each, found 0"), (["--noise", "-1"], "--noise: expected finite")],
)
def test_bad_flags_are_refused_in_a_line(flags, said, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main("privacy", Privacy, run, [*flags, "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1 and not (tmp_path / "run").exists()
