"""The README's whole road runs as it stands there, but for its sizes."""

import re
from pathlib import Path

import numpy as np

from beamkd.models import GruStudent, load_network

README = Path(__file__).parents[1] / "README.md"
SIZES = "DRIVES, SEEDS, SEQUENCES, EPOCHS, STEPS = "


def test_the_whole_road_leads_to_a_student(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = README.read_text().split("### The whole road")[1].split("```python\n")[1].split("```")[0]
    small = re.sub(f"^{SIZES}.*$", f"{SIZES}8, 2, 180, 2, 3", code, count=1, flags=re.M)
    assert small != code
    exec(compile(small, "README", "exec"), found := {})
    top5 = np.asarray(found["scores"]["top5"])
    assert top5.shape == (2, 4) and ((top5 >= 0) & (top5 <= 1)).all()
    assert load_network(tmp_path / "student.safetensors").module == GruStudent()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"teacher", "generator", "student"}
