"""The radar's beat signal and maps, against hand calculation and a chain in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.sim import (
    Boxes,
    Chirps,
    Scatterers,
    beat_signal,
    doppler_angle_map,
    doppler_angle_of,
    range_angle_map,
    range_angle_of,
    range_doppler_map,
    reflect,
)
from beamkd.sim.radar import TESTBED

reflect = jax.jit(reflect, static_argnames=("points", "stir"))
beat_signal = jax.jit(beat_signal, static_argnums=1)
range_angle_map, range_doppler_map, doppler_angle_map = map(
    jax.jit, (range_angle_map, range_doppler_map, doppler_angle_map)
)
"""Compiled whole: each operation by itself takes as long."""

LIGHT = 299_792_458.0


def one(distance, azimuth, speed, amplitude=1.0):
    """A point at a range, m, an azimuth, degrees, that goes away at a speed, m/s."""
    towards = np.array([np.cos(np.deg2rad(azimuth)), np.sin(np.deg2rad(azimuth))], np.float32)
    return Scatterers((distance * towards)[None], (speed * towards)[None], np.full(1, amplitude, np.complex64))


def test_cells_are_those_of_the_testbed():
    assert TESTBED.range_cell == pytest.approx(0.1952, abs=1e-4)
    assert TESTBED.speed_cell == pytest.approx(LIGHT / 77e9 / 2 / (128 * 65e-6))
    assert beat_signal(one(10, 0, 1)).shape == (4, 256, 128)


def numpy_beat(points, chirps=TESTBED):
    """The same signal, point by point, in float64."""
    t = np.arange(chirps.samples) / chirps.rate
    k, n = np.arange(chirps.chirps), np.arange(chirps.antennas)
    signal = 0
    leaves = map(np.asarray, (points.position, points.velocity, points.amplitude))
    for place, velocity, amplitude in zip(*leaves, strict=True):
        place, velocity = place.astype(float), velocity.astype(float)
        r = np.linalg.norm(place)
        waves = 2 * r / LIGHT * (chirps.start + chirps.slope * t)[None, :, None]
        waves = waves + (2 * (velocity @ place / r) * chirps.start / LIGHT * chirps.interval * k)[None, None]
        waves = waves + (place[1] / r / 2 * n)[:, None, None]
        signal = signal + amplitude * np.exp(2j * np.pi * waves)
    return signal


@pytest.fixture(scope="module")
def several():
    keys = jax.random.split(jax.random.key(0), 4)
    position = jnp.array([12.0, 0.0]) + 5 * jax.random.normal(keys[0], (6, 2))
    velocity = 4 * jax.random.normal(keys[1], (6, 2))
    amplitude = jax.lax.complex(*jax.random.normal(keys[2], (2, 6)))
    return Scatterers(position, velocity, amplitude)


def test_the_beat_signal_is_that_of_its_formula(several):
    np.testing.assert_allclose(jax.jit(beat_signal)(several), numpy_beat(several), atol=0.02)  # 5,000 waves in float32


def test_antennas_that_couple_receive_of_their_neighbours(several):
    alone, coupled = (np.asarray(beat_signal(several, Chirps(coupling=share))) for share in (0, 0.1 - 0.2j))
    expected = alone.copy()
    expected[1:] += (0.1 - 0.2j) * alone[:-1]
    expected[:-1] += (0.1 - 0.2j) * alone[1:]
    np.testing.assert_allclose(coupled, expected, atol=1e-4)


def test_maps_are_those_of_a_chain_in_numpy(several):
    rng = np.random.default_rng(0)
    beat = np.asarray(beat_signal(several))
    beat = (beat + 0.1 * (rng.normal(size=beat.shape) + 1j * rng.normal(size=beat.shape))).astype(np.complex64)
    profiles = np.fft.fft(beat.astype(np.complex128), axis=1)
    profiles = profiles - profiles.mean(2, keepdims=True)
    angles = np.fft.fft(profiles, 64, axis=0)  # [64, 256, 128]
    expected = np.abs(angles).sum(2).T, np.abs(np.fft.fft(profiles, axis=2)).sum(0)
    expected += (np.abs(np.fft.fft(angles, axis=2)).mean(1).T,)
    for function, result in zip((range_angle_map, range_doppler_map, doppler_angle_map), expected, strict=True):
        found = jax.jit(function)(beat)
        np.testing.assert_allclose(found, result, rtol=1e-4, atol=1e-4 * result.max())
        np.testing.assert_allclose(jax.vmap(function)(beat[None])[0], found, rtol=1e-5, atol=1e-5 * result.max())


def test_maps_of_points_are_those_of_their_beat_signal(several):
    beat = beat_signal(several)
    for found, expected in (
        (jax.jit(range_angle_of, static_argnames="every")(several, every=1), range_angle_map(beat)),
        (jax.jit(doppler_angle_of)(several), doppler_angle_map(beat)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("every", [8, 7])
def test_some_chirps_tell_the_sum_over_all(several, every):
    exact, found = (np.asarray(range_angle_of(several, every=some)) for some in (1, every))
    assert np.abs(found - exact).mean() < 0.03 * exact.mean()
    # At this speed a point turns by a whole wave from one of these chirps to the next, and yet does not stand still.
    blind = one(10, 20, TESTBED.wavelength / (2 * every * TESTBED.interval))
    exact, found = (np.asarray(range_angle_of(blind, every=some)) for some in (1, every))
    np.testing.assert_allclose(found.max(), exact.max(), rtol=0.02)


def test_gradients_of_a_map_are_those_of_finite_differences_and_0_without_points(several):
    def strength(amplitude):
        return range_angle_of(several.replace(amplitude=several.amplitude * amplitude)).mean()

    slope = jax.grad(strength)(jnp.ones(6))
    step = 1e-2 * jax.nn.one_hot(2, 6)
    numeric = (strength(1 + step) - strength(1 - step)) / 2e-2
    assert float(slope[2]) == pytest.approx(float(numeric), rel=0.01)
    np.testing.assert_array_equal(jax.grad(strength)(jnp.zeros(6)), 0)


@pytest.mark.parametrize("distance, azimuth, speed", [(9.7, 0, 3.6), (15.3, 25, -2.1), (30, -40, 6)])
def test_a_point_peaks_in_its_cell_of_all_maps(distance, azimuth, speed):
    beat = beat_signal(one(distance, azimuth, speed))
    cell = round(distance / TESTBED.range_cell)
    angle = round(32 * np.sin(np.deg2rad(azimuth))) % 64
    pace = round(speed / TESTBED.speed_cell) % 128
    for function, expected in (
        (range_angle_map, (cell, angle)),
        (range_doppler_map, (cell, pace)),
        (doppler_angle_map, (pace, angle)),
    ):
        found = np.asarray(function(beat))
        assert np.unravel_index(found.argmax(), found.shape) == expected


def test_what_stands_still_is_not_in_a_map():
    still, moving = (np.asarray(range_angle_map(beat_signal(one(10, 20, speed)))) for speed in (0, 3))
    assert still.max() < 1e-4 * moving.max()


def test_chirps_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="rate: expected a finite number above 0, found 0"):
        Chirps(rate=0)
    with pytest.raises(InputError, match="coupling: expected a magnitude below 1, found 2j"):
        Chirps(coupling=2j)


CAR = Boxes(jnp.array([[10.0, 0.0]]), jnp.array([[4.0, 2.0]]), jnp.array([jnp.pi / 2]))
AWAY = jnp.array([[3.0, 0.0]])


def seen(points):
    return np.asarray(points.position)[np.abs(points.amplitude) > 0]


def test_a_vehicle_is_seen_on_the_sides_that_face_the_radar():
    places = seen(reflect(jax.random.key(0), CAR, AWAY, points=5))
    np.testing.assert_allclose(places[:, 0], 9.0, atol=1e-5)  # its near side alone: it stands across the radar's view
    np.testing.assert_allclose(np.sort(places[:, 1]), [-1.6, -0.8, 0, 0.8, 1.6], atol=1e-5)
    aside = CAR.replace(centre=jnp.array([[8.0, 8.0]]))
    places = seen(reflect(jax.random.key(0), aside, AWAY, points=5))
    assert len(places) == 10 and set(np.isclose(places[:, 0], 7)) == set(np.isclose(places[:, 1], 6)) == {True, False}


def test_a_vehicle_in_front_hides_what_is_behind_it():
    far = jnp.array([[20.0, 0.0]])
    alone = seen(reflect(jax.random.key(0), CAR.replace(centre=far), AWAY))
    both = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), CAR)
    both = both.replace(centre=jnp.concatenate([CAR.centre, far]))
    np.testing.assert_array_equal(
        seen(reflect(jax.random.key(0), both, jnp.concatenate([AWAY, AWAY]))),
        seen(reflect(jax.random.key(0), CAR, AWAY)),
    )
    assert len(alone) == 7


def test_amplitudes_fall_with_the_square_of_the_range_and_speeds_scatter_along_the_line_of_sight():
    near, far = (
        reflect(jax.random.key(0), CAR.replace(centre=jnp.array([[distance, 0.0]])), AWAY, points=100, stir=0.5)
        for distance in (10.0, 20.0)
    )
    assert np.abs(near.amplitude).max() == pytest.approx(4 * np.abs(far.amplitude).max())
    own = np.asarray(near.velocity - AWAY)
    np.testing.assert_allclose(own[:, 0] * near.position[:, 1], own[:, 1] * near.position[:, 0], atol=1e-4)
    assert np.linalg.norm(own, axis=1).std() == pytest.approx(0.5 * (1 - 2 / np.pi) ** 0.5, rel=0.15)
    still = reflect(jax.random.key(0), CAR, AWAY, stir=0)
    np.testing.assert_array_equal(still.velocity, jnp.broadcast_to(AWAY, still.velocity.shape))
