"""What sensors see of generated scenes, against NumPy and the simulator, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import SLOT_SECONDS, InputError
from beamkd.models.scene import SPACING, Scene
from beamkd.scenes import RENDERERS, motion, places, render, scans
from beamkd.sim import (
    Boxes,
    Camera,
    camera,
    camera_frame,
    doppler_angle_of,
    motion_masks,
    range_angle_of,
    reflect,
)
from beamkd.sim.radar import BODY as RADAR_BODY
from beamkd.sim.radar import COUPLED

camera_frame = jax.jit(camera_frame, static_argnames="camera")
reflect = jax.jit(reflect)
motion = jax.jit(motion, static_argnums=1)
"""Compiled whole: each operation by itself takes as long."""

RAYS = (216,)


def one_object(across=1.0, along=(0.0,) * 8, half=8.0, tilt=0.0, present=1.0):
    """One scene of one object, in the units of `Scene`."""

    def column(value):
        return jnp.full((1, 1, 1), value, jnp.float32)

    return Scene(column(across), np.float32(along)[None, None], column(half), column(tilt), column(present))


def both(*scenes):
    """Objects of several scenes in one."""
    return jax.tree.map(lambda *parts: np.concatenate(parts, 1), *scenes)


ABSENT = one_object(present=0.0)


def test_a_resting_object_stands_in_the_middle_ten_metres_away_for_16_rays():
    seen = np.asarray(scans(both(one_object(), ABSENT), RAYS))[0]
    np.testing.assert_allclose(seen, np.tile(seen[:1], (8, 1)))
    np.testing.assert_allclose(seen[0, 108], np.sqrt(1.01), atol=1e-3)  # never nearer than a metre: √(1 + 0.1²)
    np.testing.assert_array_equal(np.flatnonzero(seen[0] >= 0.49), np.arange(100, 117))
    assert seen[0, :90].max() < 1e-3 and seen[0, 126:].max() < 1e-3


def test_scans_follow_an_object_along_the_road():
    along = np.linspace(0.3, 1.2, 8)
    seen = np.asarray(scans(one_object(1.2, along, half=10.0), RAYS))[0]
    middle = (seen * np.arange(216)).sum(1) / seen.sum(1)
    np.testing.assert_allclose(middle, 108 + np.rad2deg(np.arctan2(along, 1.2)) / 0.6, atol=1e-3)
    away = np.sqrt(1.2**2 + along**2 + 0.1**2)
    np.testing.assert_allclose(seen.max(1), away, rtol=1e-2)
    np.testing.assert_allclose(seen.sum(1) / away, 2 * 10 / away, rtol=1e-3)


def test_of_two_objects_on_a_ray_the_farther_one_is_drawn():
    seen = np.asarray(scans(both(one_object(0.7), one_object(1.4, half=14.0)), RAYS))[0]
    np.testing.assert_allclose(seen[:, 108], np.sqrt(1.4**2 + 0.01), rtol=1e-3)


def test_an_edge_is_a_sigmoid_of_its_distance_in_rays_and_so_is_its_gradient():
    away = np.sqrt(1.01)
    for ray, offset in {108: 0, 112: 4, 118: 10}.items():
        value = 1 / (1 + np.exp(-(8 / away - offset)))
        found, gradient = jax.value_and_grad(lambda half: scans(one_object(half=half), RAYS)[0, 0, ray])(8.0)  # noqa: B023
        np.testing.assert_allclose(found, away * value, rtol=1e-4)
        np.testing.assert_allclose(gradient, away * value * (1 - value) / away, rtol=1e-4)


@pytest.mark.parametrize(("name", "map_of"), [("radar", range_angle_of), ("doppler", doppler_angle_of)])
def test_maps_are_those_of_the_simulator(name, map_of):
    along = np.array([0.3, 0.26], np.float32)
    half = RADAR_BODY[0] / 2 / 10 / SPACING * 2.0 / RADAR_BODY[0]  # of what LiDAR sees as 2 m long
    seen = np.asarray(jax.jit(RENDERERS[name], static_argnums=1)(one_object(0.9, along, half, present=0.5), ()))[0]
    map_of = jax.jit(map_of, static_argnums=1)
    speed = np.array([[0.0, -0.4 / SLOT_SECONDS]], np.float32)
    for frame, y in zip(seen, along, strict=True):
        box = Boxes(np.float32([[9.0, 10 * y]]), np.float32([RADAR_BODY]), np.float32([-np.pi / 2]))
        exact = np.asarray(map_of(reflect(jax.random.key(0), box, speed), COUPLED))
        assert frame.shape == exact.shape
        np.testing.assert_allclose(frame, exact / 2, atol=2e-3 * exact.max())


def test_a_position_is_that_of_the_first_object():
    along = np.array([0.3, 0.2, 0.1], np.float32)
    seen = places(both(one_object(0.9, along), one_object(2.0, -along)), (2,))
    np.testing.assert_array_equal(seen, np.stack([np.full(3, 0.9, np.float32), along], -1)[None])


def test_masks_are_those_of_the_camera():
    along = 0.1 * np.array([3.0, 2.6, 2.2, 1.8], np.float32)
    half = 2.0 / 2 / 10 / SPACING
    seen = np.asarray(motion(one_object(0.9, along, half), (96, 96)))[0]
    places = np.stack([np.full(5, 9.0), [3.4, 3.0, 2.6, 2.2, 1.8]], -1).astype(np.float32)
    size, heading = np.float32([camera.BODY]), np.float32([-np.pi / 2])
    frames = [camera_frame(Boxes(place[None], size, heading), camera=Camera(rows=96, columns=96)) for place in places]
    exact = np.asarray(jax.jit(motion_masks)(np.stack(frames)))
    assert set(np.unique(seen.round(5))) == {0.0, 1.0} and exact.mean() > 0.01
    assert (seen.astype(bool) != exact).sum() <= 4
    assert not np.asarray(motion(one_object(0.9, along, present=0.0), (96, 96))).any()


@pytest.mark.parametrize(
    ("name", "shape"), [("lidar", RAYS), ("radar", (256, 64)), ("doppler", (128, 64)), ("masks", (48, 48))]
)
def test_gradients_of_what_sensors_see_reach_the_objects(name, shape):
    """Where an object is along the road moves what is seen of it: its middle, as differences say."""
    start = both(one_object(0.9, (0.3, 0.26, 0.22)), one_object(1.5, (-0.5, -0.45, -0.4), present=0.7))
    weights = jnp.asarray(np.random.default_rng(0).random(shape), jnp.float32)
    gradient = jax.jit(jax.grad(lambda scene: (RENDERERS[name](scene, shape) * weights).sum()))(start)
    for part in ("across", "along", "half", "present"):
        leaf = np.asarray(getattr(gradient, part))
        assert np.isfinite(leaf).all() and (np.abs(leaf) > 0).any(axis=-1).all(), part


def test_a_sensor_without_a_renderer_is_refused_in_one_line():
    spec = {"sonar": jax.ShapeDtypeStruct((8, 2), jnp.float32)}
    with pytest.raises(InputError, match="^sensors: expected some of lidar, .*, gps for scenes, found sonar$"):
        render(one_object(), spec)


def test_several_sensors_see_an_object_where_they_see_a_car():
    along = np.array([0.3, 0.2, 0.1], np.float32)
    shapes = {"radar": (3, 256, 64), "lidar": (3, *RAYS), "gps": (3, 2)}
    spec = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    seen = render(one_object(0.9, along), spec)
    np.testing.assert_array_equal(seen["lidar"], scans(one_object(0.9, along), RAYS))
    # The LiDAR sees a body 2.6 m nearer than its antenna and 1.1 m further on, the radar one of 0.3 and 0.4 m.
    antenna = np.stack([np.full(3, 0.9 + 0.26), along - 0.11], -1)
    np.testing.assert_allclose(seen["gps"], antenna[None], rtol=1e-5)
    exact = RENDERERS["radar"](one_object(0.9 + 0.26 - 0.03, along - 0.11 + 0.04), (256, 64))
    np.testing.assert_allclose(seen["radar"], exact, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("name, shape", [("lidar", RAYS), ("gps", (2,))])
def test_a_single_sensor_sees_scenes_in_its_own_coordinates(name, shape):
    scene = one_object(0.9, np.linspace(0.3, 0.1, 3))
    alone = render(scene, {name: jax.ShapeDtypeStruct((3, *shape), jnp.float32)})
    np.testing.assert_array_equal(alone[name], RENDERERS[name](scene, shape))
