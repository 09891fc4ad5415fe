"""The generator of scenes: what it makes of traits, against NumPy, and that its gradients reach the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.models import SceneGenerator
from beamkd.models.scene import TRAITS


def scene(module, traits):
    return module.apply({}, jnp.asarray(traits, jnp.float32), method="scene")


def traits(**given):
    """Of one object."""
    names = ("bearing", "speed", "width", "distance", "tilt", "presence")
    return [given.get(name, 0.0) for name in names]


def test_shapes_and_noise_of_one_example_is_refused():
    module = SceneGenerator(noise=16, hidden=8, frames=3, ahead=2, objects=2)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16)))
    made = jax.jit(module.apply)(params, jax.random.normal(jax.random.key(1), (50, 16)))
    assert made.along.shape == (50, 2, 5)
    assert made.across.shape == made.half.shape == made.tilt.shape == made.present.shape == (50, 2, 1)
    assert made.half.min() > 0 and made.present.min() >= 0 and made.present.max() <= 1
    with pytest.raises(AssertionError):
        module.apply(params, jnp.zeros(16))


def test_objects_go_straight_along_the_road_and_scenes_go_on():
    """Now at bearing 0.5 · 0.28 · 216 rays of 0.6°, 1.35 tens of metres away; 2 · 3 · 0.6° of 10 m a frame."""
    moving = [[traits(bearing=0.5, speed=2.0, distance=1.0, width=-1.0)]]
    made = scene(SceneGenerator(ahead=3), moving)
    bearing, now = np.deg2rad(0.6 * 0.5 * 0.28 * 216), np.exp(0.3)
    np.testing.assert_allclose(made.across[0, 0], now * np.cos(bearing), rtol=1e-5)
    expected = now * np.sin(bearing) + 6 * np.deg2rad(0.6) * np.arange(-7, 4)
    np.testing.assert_allclose(made.along[0, 0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(made.half[0, 0], 8 * np.exp(-0.4) * now, rtol=1e-5)
    np.testing.assert_array_equal(scene(SceneGenerator(), moving).along, made.along[..., :8])


def test_the_first_object_is_mostly_there_and_others_mostly_are_not():
    present = scene(SceneGenerator(objects=3), [[traits(), traits(), traits(presence=1.0)]]).present[0, :, 0]
    np.testing.assert_allclose(present, 1 / (1 + np.exp([-4.0, 2.0, -2.0])), rtol=1e-5)


def test_gradients_reach_every_trait_and_are_finite():
    module = SceneGenerator(frames=4, objects=2)
    start = jnp.asarray([[traits(speed=0.5, tilt=0.3), traits(bearing=0.5, presence=0.5)]])
    gradient = jax.grad(lambda traits: sum(leaf.sum() for leaf in jax.tree.leaves(scene(module, traits))))(start)
    assert gradient.shape == (1, 2, TRAITS)
    assert np.isfinite(gradient).all() and (np.abs(gradient) > 0).all()
