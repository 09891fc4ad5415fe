"""Exports of a tiny run's networks, from flags to a report."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Model
from beamkd.models import GruStudent, save_network
from experiments.common.flags import main
from experiments.deploy import Deploy, run


def refused(capsys, *flags):
    with pytest.raises(SystemExit) as stop:
        main("deploy", Deploy, run, [*map(str, flags)])
    errors = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and len(errors.splitlines()) == 1
    return errors


def test_networks_of_a_run_become_files(finished, tmp_path, capsys):
    pytest.importorskip("jax2onnx", reason="the extra deploy is not installed")
    folder = tmp_path / "finished"
    (folder / "networks").mkdir(parents=True)
    for name in ("generator", "dfkd"):
        shutil.copy(finished / "networks" / f"{name}.safetensors", folder / "networks")
    shutil.copy(finished / "networks" / "kd.safetensors", folder / "networks" / "dfkd.seed1.safetensors")
    flags = ["--quick", "--drives", "8", "--seeds", "2", "--split", "inorder", "--calls", "20", "--windows", "30"]
    main("deploy", Deploy, run, [str(folder), *flags, "--out", str(tmp_path / "run")])
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(found["exports"]) == {"dfkd", "dfkd.seed1"}
    for name, forms in found["exports"].items():
        assert set(forms) == {"float32", "int8"}
        for form, made in forms.items():
            assert (tmp_path / "run" / "exports" / made["file"]).stat().st_size == made["bytes"]
            assert 0 < made["p50_us"] <= made["p99_us"]
            assert np.shape(made["top5_before"]) == np.shape(made["top5_after"]) == (4,)
            assert set(made["max_error"]) == {"test", "simulated", "random"}
            assert max(made["max_error"].values()) < {"float32": 1e-3, "int8": 10}[form], name
        assert forms["float32"]["top5_before"] == pytest.approx(forms["float32"]["top5_after"], abs=0.04)
    assert set(found["methods"]) == {"dfkd_float32", "dfkd_int8"}
    assert np.shape(found["methods"]["dfkd_int8"]["top5"]) == (2, 4)
    (claim,) = [claim for claim in found["claims"] if claim["metric"] == "top5"]
    rows = [
        np.mean(found["exports"][name][form]["top5_after"])
        for form in ("int8", "float32")
        for name in ("dfkd", "dfkd.seed1")
    ]
    assert claim["difference"] == pytest.approx(np.mean(rows[:2]) - np.mean(rows[2:]), abs=1e-6)
    assert "dfkd.int8.onnx" in capsys.readouterr().out
    assert "dfkd.seed1.onnx" in (tmp_path / "run" / "report.md").read_text()
    assert (tmp_path / "run" / "report.html").read_text().count("data:image/png") == 1


def test_bad_input_is_one_line_with_status_2(finished, tmp_path, capsys):
    nowhere = tmp_path / "nowhere"
    assert "found no network of beams" in refused(capsys, nowhere, "--out", tmp_path / "run")
    generator = finished / "networks" / "generator.safetensors"
    assert "found no network of beams" in refused(capsys, generator, "--out", tmp_path / "run")
    assert "calls: expected 1 or more, found 0" in refused(capsys, finished, "--calls", 0, "--out", tmp_path / "run")
    (tmp_path / "mixed" / "networks").mkdir(parents=True)
    for rays in (20, 30):
        module = GruStudent()
        model = Model(module, module.init(jax.random.key(0), jnp.ones((1, 8, rays))), {"lidar": (8, rays)})
        save_network(tmp_path / "mixed" / "networks" / f"of{rays}.safetensors", model)
    told = refused(capsys, tmp_path / "mixed", "--out", tmp_path / "run")
    assert "of30: expected lidar of shape (20,) as of the others, found (30,)" in told
    assert not (tmp_path / "run").exists()
