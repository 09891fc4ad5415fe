"""The README's windows by Grain are those of `make_windows`."""

import shutil
from pathlib import Path

import numpy as np

from beamkd.base import Rows
from beamkd.data import gather, make_windows, open_drives

ROOT = Path(__file__).parents[3]


def test_windows_of_the_readme_are_those_of_gather(prepared, tmp_path, monkeypatch):
    shutil.copytree(
        prepared / "datasets" / "beamkd_street" / "nine", tmp_path / "datasets" / "beamkd_street" / "default"
    )
    monkeypatch.chdir(tmp_path)
    names = {}
    code = (ROOT / "README.md").read_text().split("## TFDS datasets")[1].split("```python\n")[2].split("```")[0]
    exec(compile(code, "README.md", "exec"), names)
    drives = open_drives(prepared / "drives")
    windows = make_windows(drives)
    batch = names["windows"][0]
    assert names["batches"][0]["power"].shape == (64, 64) and batch["lidar"].shape == (64, 8, 216)
    train = np.flatnonzero(windows.drive <= 6)
    assert len(train) == len(names["index"])
    rows = train[np.array(names["grain"].MapDataset.range(len(train)).shuffle(seed=0)[:64])]
    expected = gather(windows, Rows(rows, np.ones(64, bool)))
    np.testing.assert_array_equal(batch["lidar"], expected.sensors["lidar"])
    np.testing.assert_array_equal(batch["labels"], expected.labels)
    assert (expected.labels < 0).any()
