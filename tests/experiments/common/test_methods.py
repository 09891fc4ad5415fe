"""How sequences without labels are kept."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import MISSING
from beamkd.data import sensor_input
from beamkd.models import SceneGenerator
from beamkd.scenes import render
from experiments.common import methods
from experiments.common.methods import unlabelled


def test_sequences_are_kept_in_little_room_and_taken_as_they_were_but_for_rounding():
    keys = jax.random.split(jax.random.key(0), 3)
    seen = {
        "lidar": jax.random.uniform(keys[0], (2, 3, 216)),
        "radar": jnp.exp(10 * jax.random.uniform(keys[1], (2, 3, 256, 64))),
        "masks": jax.random.bernoulli(keys[2], 0.1, (2, 3, 16, 16)) + jnp.float32(1e-7),  # a renderer rounds
    }
    kept = unlabelled(seen, SimpleNamespace(future=3))
    assert (kept.labels == MISSING).all() and kept.labels.shape == (2, 4)
    assert {name: leaf.nbytes for name, leaf in kept.sensors.items()} == {
        "lidar": 4 * 2 * 3 * 216,
        "radar": 2 * 2 * 3 * 256 * 64,
        "masks": 2 * 3 * 16 * 2,
    }
    taken = sensor_input(*seen)(kept)
    for name, rounding in {"lidar": 1e-6, "radar": 2**-8, "masks": 1e-6}.items():
        assert taken[name].dtype == jnp.float32
        np.testing.assert_allclose(taken[name], seen[name], rtol=rounding, atol=1e-6)


def test_scenes_that_are_rendered_one_by_one_are_those_rendered_together():
    generator = SceneGenerator(frames=2, hidden=8)
    scenes = jax.jit(lambda key: generator.init_with_output(key, jax.random.normal(key, (3, 64)))[0])(jax.random.key(0))
    spec = {"radar": jax.ShapeDtypeStruct((2, 256, 64), jnp.float32)}
    dataset = SimpleNamespace(future=3, sensors=("radar",), spec=lambda sensors: spec)
    found = jax.jit(methods._as_batch(dataset, kept=True))(scenes)
    expected = jax.jit(lambda scenes: unlabelled(render(scenes, spec), dataset))(scenes)
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one.shape, other.shape), found, expected)
    maps, wanted = (sensor_input("radar")(kept) for kept in (found, expected))
    assert maps.shape == (3, 2, 256, 64)
    np.testing.assert_allclose(maps, wanted, rtol=1e-2, atol=1e-3 * wanted.max())
    for name in ("labels", "power", "mask"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
