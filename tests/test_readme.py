"""The README's whole road runs as it stands there, but for its sizes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from beamkd.models import GruStudent, load_network
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
    assert load_network(tmp_path / "student.safetensors").module == GruStudent()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"teacher", "generator", "student"}
