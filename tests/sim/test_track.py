"""Sensors along a measured track."""

import jax
import numpy as np
import pytest

from beamkd.base import SLOT_SECONDS, InputError
from beamkd.sim import Boxes, camera, camera_frame, sense_track
from beamkd.sim.radar import BODY as RADAR_BODY
from beamkd.sim.radar import OFFSET as RADAR_OFFSET
from beamkd.sim.radar import TESTBED
from beamkd.sim.track import _velocity, cast_track

PLACES = np.array([[9.7, 6.0], [9.7, 5.6], [9.8, 5.2], [9.9, -3.0], [10.0, -3.4]], np.float32)
DRIVES = np.array([1, 1, 1, 2, 2], np.int32)


@pytest.fixture(scope="module")
def sensed():
    return sense_track(jax.random.key(0), PLACES, DRIVES, ("lidar", "radar", "doppler"))


def test_a_sensor_more_changes_nothing_of_the_others(sensed):
    assert {name: seen.shape for name, seen in sensed.items()} == {
        "lidar": (5, 216),
        "radar": (5, 256, 64),
        "doppler": (5, 128, 64),
    }
    for name, seen in sensed.items():
        np.testing.assert_array_equal(sense_track(jax.random.key(0), PLACES, DRIVES, (name,))[name], seen)


def test_scans_are_those_of_the_ray_caster_with_noise(sensed):
    exact, found = np.asarray(cast_track(PLACES)), np.asarray(sensed["lidar"])
    both = (exact > 0) & (found > 0)
    assert both.sum() > 0.8 * (exact > 0).sum()
    assert 0.005 < np.abs(exact - found)[both].mean() < 0.06


def test_a_map_shows_the_near_side_of_the_car(sensed):
    for place, seen in zip(PLACES, np.asarray(sensed["radar"]), strict=True):
        x, y = place + RADAR_OFFSET
        cell, angle = np.unravel_index(seen.argmax(), seen.shape)
        assert abs(cell * TESTBED.range_cell - np.hypot(x, y)) < max(RADAR_BODY)
        sine = (angle - 64 * (angle > 32)) / 32
        assert abs(sine - y / np.hypot(x, y)) < 0.2


def test_a_doppler_map_shows_how_fast_the_car_comes_closer(sensed):
    velocity = np.asarray(_velocity(PLACES, DRIVES))
    for place, speed, seen in zip(PLACES, velocity, np.asarray(sensed["doppler"]), strict=True):
        away = speed @ (place + RADAR_OFFSET) / np.hypot(*(place + RADAR_OFFSET))
        cells = np.arange(128) - 128 * (np.arange(128) > 64)
        profile = seen.sum(-1) - np.median(seen.sum(-1))
        found = np.average(cells, weights=np.maximum(profile, 0)) * TESTBED.speed_cell
        assert abs(found - away) < 1.5  # of which the points' own speeds are the most


def test_a_velocity_is_taken_within_its_drive():
    found = np.asarray(_velocity(PLACES, DRIVES)) * SLOT_SECONDS
    np.testing.assert_allclose(found[:3], np.gradient(PLACES[:3], axis=0), atol=1e-5)
    np.testing.assert_allclose(found[3:], np.gradient(PLACES[3:], axis=0), atol=1e-5)
    np.testing.assert_array_equal(_velocity(PLACES[:1], DRIVES[:1]), [[0, 0]])


@pytest.mark.parametrize("sensors", ["radar", ("sonar",)])
def test_what_cannot_be_simulated_is_refused(sensors):
    names = r"\['camera', 'doppler', 'gps', 'lidar', 'radar'\]"
    with pytest.raises(InputError, match=f"sensors: expected names out of {names}, found "):
        sense_track(jax.random.key(0), PLACES, DRIVES, sensors)


def test_the_camera_sees_the_car_go_its_way():
    seen = sense_track(jax.random.key(0), PLACES, DRIVES, ("camera", "gps"))
    assert seen["camera"].shape == (5, 224, 224) and seen["camera"].dtype == np.uint8
    exact = camera_frame(
        Boxes((PLACES[:1] + camera.OFFSET), np.array([camera.BODY], np.float32), -np.ones(1) * np.pi / 2)
    )
    np.testing.assert_allclose(seen["camera"][0], exact, atol=0.51)
    back = sense_track(jax.random.key(0), PLACES[:3][::-1], DRIVES[:3], ("camera",))["camera"][::-1]
    assert (back[0] != seen["camera"][0]).sum() > 20  # the other way round it shows another end
    error = np.asarray(seen["gps"]) - PLACES  # a bias for each drive, and little besides
    assert np.abs(np.diff(error[:3], axis=0)).max() < 0.5 < np.abs(error[0] - error[3]).max()
