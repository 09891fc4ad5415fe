import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Drives, Stream, Windows
from beamkd.data import deal, make_windows, open_drives, store_drives
from beamkd.training import all_rows

DRIVES, FRAMES, BEAMS = 8, 7, 3


def drives():
    rng = np.random.default_rng(0)
    count = DRIVES * FRAMES
    return Drives(
        sensors={
            "lidar": rng.random((count, 5)).astype(np.float32),
            "camera": rng.integers(0, 255, (count, 4, 4)).astype(np.uint8),
            "masks": np.packbits(rng.random((count, 5, 16)) < 0.5, axis=-1),
        },
        power=rng.random((count, BEAMS)).astype(np.float32),
        position=np.zeros((count, 2), np.float32),
        drive=np.repeat(np.arange(DRIVES, dtype=np.int32), FRAMES),
        slot=np.tile(np.arange(FRAMES, dtype=np.int32), DRIVES),
    )


KEYS = jax.random.split(jax.random.key(0), 2)


def test_sizes_are_those_of_the_data():
    dataset = deal(KEYS, make_windows(drives(), observed=4, future=2), "random", "written by hand")
    assert (dataset.observed, dataset.future, dataset.beams, dataset.origin) == (4, 2, BEAMS, "written by hand")
    spec = dataset.spec(["camera", "lidar", "masks"])
    shapes = {"camera": (4, 4, 4), "lidar": (4, 5), "masks": (4, 5, 16)}
    assert {name: leaf.shape for name, leaf in spec.items()} == shapes
    assert {leaf.dtype for leaf in spec.values()} == {jnp.dtype(jnp.float32)}
    assert dataset.split.train.index.shape[0] == len(KEYS)


@pytest.mark.parametrize("stored", [False, True])
def test_only_the_sensors_that_are_asked_for_are_gathered(tmp_path, stored):
    frames = drives()
    if stored:
        frames = store_drives(tmp_path / "kept", [frames])
        frames = open_drives(tmp_path / "kept")
    dataset = deal(KEYS, make_windows(frames, observed=4, future=2))
    source = dataset.source(["camera"])
    assert isinstance(source, Stream if stored else Windows)
    rows = all_rows(5)
    if stored:
        rows = jax.tree.map(lambda leaf: np.asarray(leaf)[None], rows)
        examples = source.read(rows)
        assert examples.sensors.keys() == {"camera"}
        batch = dataset.take(jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), examples), all_rows(5))
    else:
        batch = dataset.take(source, rows)
    assert batch.sensors.keys() == {"camera"}
    expected = np.stack([drives().sensors["camera"][row : row + 4] for row in (0, 1, 2, 3, 7)])
    np.testing.assert_array_equal(batch.sensors["camera"], expected)
