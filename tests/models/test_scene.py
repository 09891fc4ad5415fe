"""The generator of moving objects: what it draws from traits, against NumPy, and that its gradients reach the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.models import SceneGenerator
from beamkd.models.scene import TRAITS


def drawn(module, traits):
    return module.apply({}, jnp.asarray(traits, jnp.float32), method=lambda module, traits: module._draw(traits))


def traits(**given):
    """Of one object that is there; the second one, if any, is not."""
    names = ("bearing", "speed", "width", "distance", "tilt", "presence")
    return [given.get(name, 0.0) for name in names]


ABSENT = traits(presence=-30.0)


def test_shapes_and_ranges_and_noise_of_one_example_is_refused():
    module = SceneGenerator(noise=16, hidden=8, frames=3, rays=40)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16)))
    scans = jax.jit(module.apply)(params, jax.random.normal(jax.random.key(1), (50, 16)))
    assert scans.shape == (50, 3, 40)
    assert scans.min() >= 0 and scans.max() > 0.3
    with pytest.raises(AssertionError):
        module.apply(params, jnp.zeros(16))


def test_a_resting_object_stands_in_the_middle_ten_metres_away_for_16_rays():
    scans = np.asarray(drawn(SceneGenerator(objects=2), [[traits(presence=10.0), ABSENT]]))[0]
    np.testing.assert_allclose(scans, np.tile(scans[:1], (8, 1)))
    np.testing.assert_allclose(scans[0, 108], np.sqrt(1.01), atol=1e-3)  # never nearer than a metre: √(1 + 0.1²)
    np.testing.assert_array_equal(np.flatnonzero(scans[0] >= 0.49), np.arange(100, 117))
    assert scans[0, :90].max() < 1e-3 and scans[0, 126:].max() < 1e-3


def test_objects_go_straight_along_the_road_and_scenes_go_on():
    """Now at bearing 0.5 · 0.28 · 216 rays of 0.6°, 1.35 tens of metres away; 2 · 3 · 0.6° of 10 m a frame."""
    moving = [[traits(bearing=0.5, speed=2.0, distance=1.0, presence=20.0)]]
    scans = np.asarray(drawn(SceneGenerator(ahead=3), moving))[0]
    assert scans.shape == (11, 216)
    np.testing.assert_allclose(scans[:8], np.asarray(drawn(SceneGenerator(), moving))[0], atol=1e-6)
    bearing, now = np.deg2rad(0.6 * 0.5 * 0.28 * 216), np.exp(0.3)
    across, along = now * np.cos(bearing), now * np.sin(bearing) + 6 * np.deg2rad(0.6) * np.arange(-7, 4)
    middle = (scans * np.arange(216)).sum(1) / scans.sum(1)
    np.testing.assert_allclose(middle, 108 + np.rad2deg(np.arctan2(along, across)) / 0.6, atol=1e-3)
    away = np.sqrt(across**2 + along**2 + 0.1**2)
    np.testing.assert_allclose(scans.max(1), away, rtol=1e-2)
    np.testing.assert_allclose(scans.sum(1) / away, 16 * now / away, rtol=1e-3)


def test_of_two_objects_on_a_ray_the_farther_one_is_drawn():
    near, far = traits(distance=-1.0, presence=10.0), traits(distance=1.0, presence=20.0)
    scans = np.asarray(drawn(SceneGenerator(objects=2), [[near, far]]))[0]
    np.testing.assert_allclose(scans[:, 108], np.sqrt(np.exp(0.6) + 0.01), rtol=1e-3)


def test_an_edge_is_a_sigmoid_of_its_distance_in_rays_and_so_is_its_gradient():
    def seen(width, ray):
        there = traits(presence=30.0)
        there[2] = width
        return drawn(SceneGenerator(), [[there]])[0, 0, ray]

    away = np.sqrt(1.01)
    for ray, offset in {108: 0, 112: 4, 118: 10}.items():
        value = 1 / (1 + np.exp(-(8 / away - offset)))
        found, gradient = jax.value_and_grad(seen)(0.0, ray)
        np.testing.assert_allclose(found, away * value, rtol=1e-4)
        np.testing.assert_allclose(gradient, away * value * (1 - value) * 8 / away * 0.4, rtol=1e-4)


def test_gradients_reach_every_trait_and_are_finite():
    module = SceneGenerator(frames=4, objects=2)
    start = jnp.asarray([[traits(speed=0.5, tilt=0.3), traits(bearing=0.5, presence=0.5)]])
    weights = jnp.asarray(np.random.default_rng(0).random((4, 216)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda traits: (drawn(module, traits) * weights).sum()))(start)
    assert gradient.shape == (1, 2, TRAITS)
    assert np.isfinite(gradient).all() and (np.abs(gradient) > 0).all()
