"""The camera against pinhole geometry, and motion masks against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from beamkd.base import InputError
from beamkd.sim import Boxes, Walls
from beamkd.sim.camera import Camera, Car, Paint, _edges, _inside, camera_frame, motion_masks, project

camera_frame = jax.jit(camera_frame, static_argnames=("camera", "car", "paint"))
"""Compiled whole: each operation by itself takes as long."""

PLAIN = Car(clearance=0.0, belt=1.0, roof=1.001, wheel=1e-3, hub=1e-4, axles=(0.9, 0.9), shadow=0.0)
"""A box: no cabin to speak of, no wheels, no shadow beyond it."""

BLACK = Paint(**dict.fromkeys(Paint.__dataclass_fields__, 0.0) | {"road": 1.0, "verge": 1.0, "wall": 1.0})
"""Black vehicles on a white street."""


def boxes(*rows) -> Boxes:
    """Vehicles (x, y, length, width, heading in degrees)."""
    x, y, length, width, heading = np.array(rows, np.float32).T
    return Boxes(jnp.stack([x, y], -1), jnp.stack([length, width], -1), jnp.deg2rad(heading))


def pinhole(places: np.ndarray, camera: Camera) -> np.ndarray:
    """Rows and columns by a rotation matrix and homogeneous coordinates."""
    yaw = np.deg2rad(camera.yaw)
    forward, right = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([np.sin(yaw), -np.cos(yaw), 0])
    view = np.stack([right, [0, 0, -1], forward])
    height, width = camera.sensor
    lens = np.array([[camera.focal, 0, width / 2], [0, camera.focal, height / 2 - camera.horizon], [0, 0, 1]])
    u, v, scale = lens @ view @ (places - [0, 0, camera.above]).T
    return np.stack([v / scale * camera.rows / height, u / scale * camera.columns / width], -1)


def test_points_stand_where_a_pinhole_puts_them():
    places = np.random.default_rng(0).uniform([3, -8, 0], [30, 8, 4], (50, 3)).astype(np.float32)
    camera = Camera(yaw=11.0, above=2.0, horizon=40.0, rows=100, columns=300)
    found, depth = project(places, camera)
    np.testing.assert_allclose(found, pinhole(places, camera), rtol=2e-5, atol=1e-3)
    yaw = np.deg2rad(11.0)
    np.testing.assert_allclose(depth, places[:, 0] * np.cos(yaw) + places[:, 1] * np.sin(yaw), rtol=1e-5)


@pytest.mark.parametrize("place", [(9.0, 0.0, 4.0, 1.8, -90), (8.0, 5.0, 4.0, 1.8, 90), (15.0, -6.0, 6.0, 2.0, -60)])
def test_a_box_is_painted_where_its_corners_project_to(place):
    x, y, length, width, heading = place
    cos, sin = np.cos(np.deg2rad(heading)), np.sin(np.deg2rad(heading))
    corners = [
        (x + cos * a * length / 2 - sin * b * width / 2, y + sin * a * length / 2 + cos * b * width / 2, up)
        for a in (-1, 1)
        for b in (-1, 1)
        for up in (0.0, width / PLAIN.width)
    ]
    expected = pinhole(np.array(corners), Camera())
    painted = np.argwhere(np.asarray(camera_frame(boxes(place), car=PLAIN, paint=BLACK)) < 128)
    np.testing.assert_allclose(painted.min(0), expected.min(0), atol=1)
    np.testing.assert_allclose(painted.max(0) + 1, expected.max(0), atol=1)


def test_a_pixel_is_covered_by_the_share_inside():
    corners = np.array([(20.3, 20.2), (60.7, 31.4), (55.1, 90.8), (15.9, 70.5)], np.float32)  # rows, columns
    row, column = corners.T
    area = abs(np.sum(row * np.roll(column, -1) - column * np.roll(row, -1))) / 2
    turn = np.sign(np.sum(column * np.roll(row, -1) - row * np.roll(column, -1)))
    one, other = (np.asarray(_inside(_edges(corners, side), Camera())) for side in (-turn, turn))
    assert {float(one.max()), float(other.max())} == {0.0, 1.0}
    np.testing.assert_allclose((one + other).sum(), area, rtol=5e-3)
    # A strip that is a third of a pixel wide covers a third, not all of the pixels that it runs through.
    thin = np.array([(50.4, 20.0), (50.4, 120.0), (50.733, 120.0), (50.733, 20.0)], np.float32)
    covered = max(float(_inside(_edges(thin, side), Camera()).sum()) for side in (1.0, -1.0))
    assert covered == pytest.approx(100 / 3, rel=0.02)


def test_the_nearer_vehicle_hides_the_farther_and_the_order_they_come_in_does_not_matter():
    near, far = (8.0, 0.0, 4.4, 1.8, -90), (12.0, 1.0, 4.4, 1.8, 90)
    both, alone = camera_frame(boxes(far, near)), camera_frame(boxes(near))
    np.testing.assert_array_equal(both, camera_frame(boxes(near, far)))
    covered = np.asarray(camera_frame(boxes(near), paint=BLACK)) == 0
    np.testing.assert_allclose(np.asarray(both)[covered], np.asarray(alone)[covered], atol=1e-3)
    assert (np.abs(both - alone) > 1).sum() > 30  # the other is seen beside it


def test_a_wall_hides_what_is_behind_it_and_nothing_before_it():
    wall = Walls(jnp.array([[10.0, -50.0]]), jnp.array([[10.0, 50.0]]))
    behind, before = boxes((13.0, 0.0, 4.4, 1.8, 90)), boxes((7.0, 0.0, 4.4, 1.8, 90))
    street = camera_frame(Boxes(jnp.zeros((0, 2)), jnp.zeros((0, 2)), jnp.zeros(0)), wall)
    np.testing.assert_allclose(camera_frame(behind, wall), street, atol=1e-3)
    hidden = np.asarray(camera_frame(before, wall, paint=BLACK)) == 0
    free = np.asarray(camera_frame(before, wall))[hidden]
    assert (np.abs(free - np.asarray(street)[hidden]) > 1).mean() > 0.5


def test_what_is_beside_or_behind_the_camera_is_not_painted():
    empty = camera_frame(boxes((-9.0, 0.0, 4.4, 1.8, 90)))
    np.testing.assert_array_equal(empty, camera_frame(boxes((0.0, 0.0, 4.4, 1.8, 90))))
    assert len(np.unique(empty[:, 0])) <= 3 and (np.ptp(empty, axis=1) == 0).all()


def test_front_and_rear_are_told_apart():
    towards, away = camera_frame(boxes((9.0, 6.0, 4.4, 1.8, -90))), camera_frame(boxes((9.0, 6.0, 4.4, 1.8, 90)))
    assert (np.abs(np.asarray(towards) - np.asarray(away)) > 5).sum() > 20
    # A mirrored street gives mirrored frames.
    straight = Camera(yaw=0.0)
    left = camera_frame(boxes((9.0, 4.0, 4.4, 1.8, -70)), camera=straight)
    right = camera_frame(boxes((9.0, -4.0, 4.4, 1.8, 70)), camera=straight)
    np.testing.assert_allclose(left, right[:, ::-1], atol=0.02)


def test_frames_follow_the_place_of_a_vehicle():
    """Edges are soft, so that there is a gradient: here of how far to the right what is not street stands."""

    def right(y):
        frame = camera_frame(Boxes(jnp.stack([9.0, y])[None], jnp.array([[4.4, 1.8]]), jnp.array([-1.2])), paint=BLACK)
        return ((255 - frame) * jnp.arange(224)).mean() / (255 - frame).mean()

    found = jax.jit(jax.value_and_grad(right))
    differences = float(found(2.1)[0] - found(1.9)[0]) / 0.2
    assert differences == pytest.approx(-391 / 9 * 224 / 960, rel=0.2)
    assert float(found(2.0)[1]) == pytest.approx(differences, rel=0.15)
    many = jax.jit(jax.vmap(right))(jnp.linspace(-3, 3, 4))
    np.testing.assert_allclose(many, [found(y)[0] for y in np.linspace(-3, 3, 4)], rtol=1e-4)


def test_masks_are_those_of_scipy():
    rng = np.random.default_rng(1)
    gray = ndimage.uniform_filter(rng.integers(0, 256, (2, 4, 60, 80)).astype(np.float32), (0, 0, 5, 5))
    gray = np.round(gray).astype(np.uint8)
    blurred = ndimage.gaussian_filter(gray.astype(np.float64), (0, 0, 1, 1), mode="reflect", truncate=4)
    change = np.abs(np.diff(blurred, axis=1))
    expected = change > 0.1 * change.max((-1, -2), keepdims=True)
    found = np.asarray(jax.jit(motion_masks)(gray))
    assert found.shape == (2, 3, 60, 80) and found.dtype == bool
    assert (found != expected).sum() <= 2 and 0.1 < expected.mean() < 0.9  # rounding at the threshold


def test_where_nothing_changes_nothing_has_moved():
    assert not motion_masks(np.full((3, 20, 20), 7, np.uint8)).any()


@pytest.mark.parametrize("settings", [{"focal": 0.0}, {"rows": -1}, {"above": float("nan")}])
def test_a_camera_that_cannot_be_is_refused(settings):
    with pytest.raises(InputError, match=f"{next(iter(settings))}: expected a finite number above 0"):
        Camera(**settings)
