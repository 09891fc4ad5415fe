"""The README's whole road runs as it stands there, but for its sizes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from beamkd.base import Model
from beamkd.models import GruStudent, PatchStudent, load_network, save_network
from tests.xla import UNOPTIMIZED

ROOT = Path(__file__).parents[1]
SIZES = "DRIVES, SEEDS, SEQUENCES, EPOCHS, STEPS = "


def test_the_whole_road_leads_to_a_student(tmp_path):
    code = (ROOT / "README.md").read_text().split("### The whole road")[1].split("```python\n")[1].split("```")[0]
    small = re.sub(f"^{SIZES}.*$", f"{SIZES}8, 2, 180, 2, 3", code, count=1, flags=re.M)
    assert small != code
    kept = f"{small}\nimport numpy\nnumpy.save('top5.npy', scores['top5'])\n"
    environment = {**os.environ, "XLA_FLAGS": UNOPTIMIZED, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", kept], cwd=tmp_path, env=environment, check=True)
    top5 = np.load(tmp_path / "top5.npy")
    assert top5.shape == (2, 4) and ((top5 >= 0) & (top5 <= 1)).all()
    assert load_network(tmp_path / "student.safetensors").module == PatchStudent()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"teacher", "generator", "student"}


def blocks_of(section):
    """The Python of a section of the README."""
    text = (ROOT / "README.md").read_text().split(f"\n{section}\n")[1].split("\n## ")[0]
    return [block.split("```")[0] for block in text.split("```python\n")[1:]]


def test_a_network_that_a_run_left_takes_a_frame_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "datafree" / "networks"
    folder.mkdir(parents=True)
    scans = np.zeros((1, 8, 216), np.float32)
    model = Model(GruStudent(), GruStudent().init(jax.random.key(0), scans), {"lidar": (8, 216)})
    save_network(folder / "dfkd.safetensors", model)
    found = {}
    exec(blocks_of("## To the roadside")[1], found)
    expected = model.module.apply(model.params, scans, future=3, slots=4).logits
    np.testing.assert_allclose(found["logits"], expected, atol=1e-6)


def test_a_box_without_jax_runs_the_file(tmp_path, monkeypatch):
    pytest.importorskip("jax2onnx", reason="the extra deploy is not installed")
    from beamkd.deploy import to_onnx

    monkeypatch.chdir(tmp_path)
    scans = np.zeros((1, 8, 216), np.float32)
    model = Model(GruStudent(), GruStudent().init(jax.random.key(0), scans), {"lidar": (8, 216)})
    (tmp_path / "dfkd.onnx").write_bytes(to_onnx(model))
    found = {}
    exec(blocks_of("## To the roadside")[0], found)
    assert found["logits"].shape == (1, 4, 64)
