from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Drives
from beamkd.data import write_deepsense

LENGTHS = (5, 4)
"""Frames of the hand-made drives, numbered 3 and 1."""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """A folder of the test's own for drives that are kept decoded."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "beamkd" / "decoded"


@pytest.fixture
def drives() -> Drives:
    """Nine frames of two drives, with values of all sizes that float32 can hold."""
    frames = sum(LENGTHS)
    rng = np.random.default_rng(0)
    scan = rng.uniform(1, 20, (frames, 216)) * (rng.random((frames, 216)) < 0.3)
    position = rng.normal(0, 10, (frames, 2)) * 10.0 ** -rng.integers(0, 8, (frames, 2))
    return Drives(
        sensors={"lidar": jnp.asarray(scan, jnp.float32)},
        power=jnp.asarray(10 ** rng.uniform(-30, 30, (frames, 64)), jnp.float32),
        position=jnp.asarray(position, jnp.float32),
        drive=jnp.asarray(np.repeat([3, 1], LENGTHS), jnp.int32),
        slot=jnp.asarray(np.concatenate([np.arange(n) for n in LENGTHS]), jnp.int32),
    )


@pytest.fixture
def scenario(drives, tmp_path):
    """A small Scenario 8 folder of those frames."""
    write_deepsense(drives, tmp_path / "Scenario8")
    return tmp_path / "Scenario8"


@pytest.fixture
def edit_csv(scenario):
    """A function that replaces a text of the small scenario's CSV, which must be there."""

    def edit(old: str, new: str, count: int = -1) -> None:
        path = scenario / "scenario8.csv"
        text = path.read_bytes().decode()
        assert old in text
        path.write_bytes(text.replace(old, new, count).encode())

    return edit
