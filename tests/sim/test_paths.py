"""Paths against hand calculation and an independent program in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd import sim
from beamkd.base import InputError
from beamkd.sim import (
    Boxes,
    Walls,
    beam_powers,
    channel,
    fresnel,
    permittivity,
    steered_codebook,
    steering_vector,
)

C = 299_792_458.0
WAVELENGTH = C / 60e9
trace = jax.jit(sim.trace_paths)


def wall(start, end, material="concrete"):
    return Walls(jnp.array([start]), jnp.array([end]), jnp.array([permittivity(material)], jnp.complex64))


def box(x, y, length, width, heading=np.pi / 2):
    return Boxes(jnp.array([[x, y]]), jnp.array([[length, width]]), jnp.array([heading]))


def p2040_te(material, degrees):
    """TE reflection coefficient at 60 GHz, written anew from ITU-R P.2040-3, equations 31a and 37."""
    a, b, c, d = {"concrete": (5.24, 0, 0.0462, 0.7822), "glass": (6.31, 0, 0.0036, 1.3394)}[material]
    eta = a * 60**b - 1j * 17.98 * (c * 60**d) / 60
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (cos - np.sqrt(eta - sin**2)) / (cos + np.sqrt(eta - sin**2))


def test_free_space_has_friis_amplitude_delay_and_azimuth():
    for x, y in [(10.0, 0.0), (9.7, -9.3), (3.0, 40.0)]:
        paths = trace(jnp.array([x, y]), oxygen=0.0)
        length = np.hypot(x, y)
        np.testing.assert_allclose(paths.amplitude, [WAVELENGTH / (4 * np.pi * length)], rtol=1e-5)
        np.testing.assert_allclose(paths.delay, [length / C], rtol=1e-5)
        np.testing.assert_allclose(paths.azimuth, [np.arctan2(y, x)], rtol=1e-5)


def test_oxygen_takes_fifteen_db_a_kilometre():
    ratio = trace(jnp.array([200.0, 0.0])).amplitude / trace(jnp.array([200.0, 0.0]), oxygen=0.0).amplitude
    np.testing.assert_allclose(20 * np.log10(ratio), [-3.0], rtol=1e-4)


def test_a_quarter_wavelength_turns_the_phase_back_by_a_right_angle():
    near, far = (trace(jnp.array([x, 0.0])).phase for x in (1.0, 1.0 + WAVELENGTH / 4))
    assert abs(np.exp(1j * (far - near))[0] - np.exp(-0.5j * np.pi)) < 1e-3


@pytest.mark.parametrize("material", ["concrete", "glass"])
def test_a_wall_reflects_from_its_image_with_the_fresnel_amplitude(material):
    # Car at (10, 4), wall at x = 16: the base station's image is at (32, 0).
    paths = trace(jnp.array([10.0, 4.0]), walls=wall((16.0, -30.0), (16.0, 30.0), material), oxygen=0.0)
    length = np.hypot(22.0, 4.0)
    incidence = np.rad2deg(np.arctan2(4.0, 22.0))
    coefficient = p2040_te(material, incidence)
    np.testing.assert_allclose(paths.delay[1], length / C, rtol=1e-5)
    np.testing.assert_allclose(paths.azimuth[1], np.arctan2(4.0 * 16 / 22, 16.0), rtol=1e-5)
    expected = WAVELENGTH / (4 * np.pi * length) * abs(coefficient)
    np.testing.assert_allclose(paths.amplitude[1], expected, rtol=1e-3)
    phase = np.angle(coefficient) - 2 * np.pi * length / WAVELENGTH
    assert abs(np.exp(1j * float(paths.phase[1])) - np.exp(1j * phase)) < 1e-2


def test_reflection_at_normal_incidence_is_that_of_the_refractive_index():
    te, tm = fresnel(jnp.array([1.0]), jnp.array([4.0 + 0j]))
    np.testing.assert_allclose(te, [-1 / 3], rtol=1e-5)
    np.testing.assert_allclose(tm, [1 / 3], rtol=1e-5)


def test_at_brewsters_angle_nothing_of_tm_is_reflected():
    te, tm = fresnel(jnp.cos(jnp.arctan(jnp.array([2.0]))), jnp.array([4.0 + 0j]))
    assert abs(tm[0]) < 1e-6 < abs(te[0])


def test_metal_reflects_all():
    te, _ = fresnel(jnp.array([0.3]), permittivity("metal"))
    np.testing.assert_allclose(te, [-1.0], atol=1e-3)


def test_an_unknown_material_is_named():
    with pytest.raises(InputError, match="^material: expected .*found 'cheese'"):
        permittivity("cheese")


def test_a_reflection_that_misses_the_finite_wall_is_absent():
    # The point of reflection is (16, 2.909).
    for start, end, there in [(-30, 2.8, False), (3.0, 30, False), (2.8, 3.0, True)]:
        paths = trace(jnp.array([10.0, 4.0]), walls=wall((16.0, start), (16.0, end)))
        assert (paths.amplitude[1] > 0) == there
        assert paths.amplitude[0] > 0


def test_a_wall_behind_the_base_station_reflects_from_behind():
    paths = trace(jnp.array([10.0, 4.0]), walls=wall((-3.0, -30.0), (-3.0, 30.0)))
    assert paths.amplitude[1] > 0
    np.testing.assert_allclose(paths.delay[1], np.hypot(16.0, 4.0) / C, rtol=1e-5)
    assert abs(paths.azimuth[1]) > np.pi / 2


def test_a_vehicle_across_the_line_of_sight_makes_its_amplitude_exactly_zero():
    position = jnp.array([10.0, 2.0])
    assert trace(position, box(5.0, 1.0, 4.0, 2.0)).amplitude[0] == 0.0
    assert trace(position, box(5.0, 4.5, 4.0, 2.0)).amplitude[0] > 0
    assert trace(position, box(13.0, 2.6, 4.0, 2.0)).amplitude[0] > 0, "behind the car"
    assert trace(position, box(-5.0, -1.0, 4.0, 2.0)).amplitude[0] > 0, "behind the base station"


def test_a_wall_across_the_line_of_sight_blocks_it():
    assert trace(jnp.array([10.0, 0.0]), walls=wall((5.0, -1.0), (5.0, 1.0))).amplitude[0] == 0.0
    assert trace(jnp.array([10.0, 0.0]), walls=wall((5.0, 0.5), (5.0, 1.0))).amplitude[0] > 0


@pytest.mark.parametrize(("x", "y"), [(13.0, 3.45), (8.0, 1.4545)])
def test_a_vehicle_on_either_leg_blocks_the_reflection(x, y):
    # Reflection at (16, 2.909) of a car at (10, 4): one vehicle on each of its legs.
    front = wall((16.0, -30.0), (16.0, 30.0))
    assert trace(jnp.array([10.0, 4.0]), box(x, y, 0.4, 0.4), front).amplitude[1] == 0.0
    assert trace(jnp.array([10.0, 4.0]), box(x, y - 3, 0.4, 0.4), front).amplitude[1] > 0


def test_the_near_side_of_a_vehicle_beyond_reflects_as_metal_and_no_other_side_does():
    # Near side at x = 12, as a wall there: image at (24, 0), reflection at (12, 12 * 2 / 14).
    paths = trace(jnp.array([10.0, 2.0]), box(13.0, 1.7, 4.0, 2.0), oxygen=0.0)
    length = np.hypot(14.0, 2.0)
    amplitude = np.asarray(paths.amplitude)
    assert amplitude[0] > 0 and (amplitude[1:] > 0).sum() == 1
    side = 1 + amplitude[1:].argmax()
    np.testing.assert_allclose(amplitude[side], WAVELENGTH / (4 * np.pi * length), rtol=2e-3)
    np.testing.assert_allclose(paths.delay[side], length / C, rtol=1e-5)
    np.testing.assert_allclose(paths.azimuth[side], np.arctan2(2.0, 14.0), rtol=1e-4)


def test_a_turned_vehicle_reflects_from_its_turned_side():
    # A long box turned by 45 degrees, its near side on the line x + y = 20: the origin's image is at (20, 20).
    centre = 10 + 1 / np.sqrt(2)
    paths = trace(jnp.array([10.0, 4.0]), box(centre, centre, 12.0, 2.0, 3 * np.pi / 4), oxygen=0.0)
    length = np.hypot(10.0, 16.0)
    found = np.asarray(paths.delay)[1:][np.asarray(paths.amplitude)[1:] > 0]
    np.testing.assert_allclose(found, [length / C], rtol=1e-5)


def test_doppler_is_positive_while_the_car_comes_nearer():
    position = jnp.array([10.0, -10.0])
    toward = trace(position, velocity=-position / jnp.linalg.norm(position) * 3.0)
    np.testing.assert_allclose(toward.doppler, [3.0 / WAVELENGTH], rtol=1e-5)
    away = trace(position, velocity=position / jnp.linalg.norm(position) * 3.0)
    np.testing.assert_allclose(away.doppler, [-3.0 / WAVELENGTH], rtol=1e-5)


def test_doppler_is_the_rate_of_the_paths_length_for_moving_car_and_moving_mirror():
    velocity, other = jnp.array([0.7, 3.0]), jnp.array([[-1.3, 2.0]])
    front = wall((16.0, -30.0), (16.0, 30.0))

    def at(seconds):
        moved = box(13.0 + other[0, 0] * seconds, 1.7 + other[0, 1] * seconds, 4.0, 2.0)
        return trace(jnp.array([10.0, 2.0]) + velocity * seconds, moved, front, velocity, other)

    step = 0.01
    rate = (np.asarray(at(step).delay) - np.asarray(at(-step).delay)) * C / (2 * step)
    there = np.asarray(at(0.0).amplitude) > 0
    assert there.sum() == 2, "the line of sight and the vehicle, which hides the wall"
    np.testing.assert_allclose(at(0.0).doppler[there], -rate[there] / WAVELENGTH, rtol=2e-3)


def test_subcarriers_turn_by_their_delay():
    paths = trace(jnp.array([30.0, 5.0]))
    response = np.asarray(channel(paths, 4, subcarriers=3, spacing=10e6))
    turn = np.exp(-2j * np.pi * 10e6 * np.hypot(30.0, 5.0) / C)
    assert response.shape == (3, 4)
    np.testing.assert_allclose(response[1] / response[0], turn, rtol=1e-4)
    np.testing.assert_allclose(response[2] / response[1], turn, rtol=1e-4)
    narrow = np.asarray(channel(paths, 4))
    np.testing.assert_allclose(narrow[0], response[1], rtol=1e-4)


def test_time_turns_the_channel_by_its_doppler():
    paths = trace(jnp.array([10.0, 0.0]), velocity=jnp.array([-1.0, 0.0]))
    ratio = np.asarray(channel(paths, 2, time=1e-3) / channel(paths, 2))
    np.testing.assert_allclose(ratio, np.exp(2j * np.pi * 1e-3 / WAVELENGTH), rtol=1e-4)


def test_the_channel_is_the_sum_of_the_paths():
    paths = trace(jnp.array([10.0, 4.0]), walls=wall((16.0, -30.0), (16.0, 30.0)))
    expected = sum(
        paths.amplitude[p] * np.exp(1j * paths.phase[p]) * np.asarray(steering_vector(paths.azimuth[p], 8))
        for p in range(2)
    )
    np.testing.assert_allclose(channel(paths, 8)[0], expected, rtol=1e-4, atol=1e-9)


def test_a_blocked_channel_leaves_the_noise_floor_alone():
    paths = trace(jnp.array([10.0, 0.0]), walls=wall((5.0, -1.0), (5.0, 1.0)))
    power = beam_powers(channel(paths, 16), steered_codebook(), noise_floor=0.25)
    np.testing.assert_array_equal(power, np.full(64, 0.25, np.float32))


def test_beam_powers_average_over_subcarriers():
    channels = jnp.array([[1.0, 0.0], [0.0, 3.0]], jnp.complex64)
    power = beam_powers(channels, jnp.eye(2, dtype=jnp.complex64), noise_floor=jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(power, [0.5, 5.5])


def test_the_gradient_of_power_with_respect_to_position_is_finite_and_right():
    front = wall((16.0, -30.0), (16.0, 30.0))
    blocker = box(5.0, 6.0, 4.0, 2.0)

    def total(position):
        paths = trace(position, blocker, front, oxygen=0.0)
        return (beam_powers(channel(paths, 16), steered_codebook(8)) * 1e6).sum()

    gradient = jax.jit(jax.grad(total))
    for position in ([9.7, 0.0], [9.7, 7.0], [10.0, 9.0]):
        assert np.isfinite(gradient(jnp.array(position))).all()
    # Without fading by the wall, power falls with the square of the distance.
    free = jax.grad(lambda x: trace(jnp.array([x, 0.0]), oxygen=0.0).amplitude[0] ** 2)(10.0)
    np.testing.assert_allclose(free, -2 * (WAVELENGTH / (4 * np.pi)) ** 2 / 10.0**3, rtol=1e-4)


def test_tracing_gives_the_same_under_jit_and_vmap():
    front = wall((16.0, -30.0), (16.0, 30.0))
    positions = jnp.array([[10.0, 4.0], [9.0, -3.0], [11.0, 0.5]])
    batched = jax.jit(jax.vmap(lambda p: trace(p, box(13.0, 1.7, 4.0, 2.0), front)))(positions)
    assert batched.amplitude.shape == (3, 1 + 1 + 4)
    for i, position in enumerate(positions):
        one = trace(position, box(13.0, 1.7, 4.0, 2.0), front)
        np.testing.assert_allclose(batched.amplitude[i], one.amplitude, rtol=1e-5)
        np.testing.assert_allclose(batched.delay[i], one.delay, rtol=1e-6)
