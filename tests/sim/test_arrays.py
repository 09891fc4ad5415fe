import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from beamkd.base import InputError
from beamkd.sim import (
    beam_powers,
    dft_codebook,
    planar_steering_vector,
    steered_codebook,
    steering_vector,
)


def test_entries_are_the_phases_of_a_half_wavelength_array():
    vector = steering_vector(jnp.array([0.3, -0.7]), 5)
    expected = np.exp(1j * np.pi * np.arange(5) * np.sin([[0.3], [-0.7]]))
    assert vector.shape == (2, 5) and vector.dtype == jnp.complex64
    np.testing.assert_allclose(vector, expected, atol=2e-6)


def test_a_beam_steered_at_the_user_gains_n():
    for antennas in (1, 8, 16, 64):
        codebook = steered_codebook(64, antennas)
        azimuth = jnp.linspace(-jnp.deg2rad(40.0), jnp.deg2rad(40.0), 64)
        gain = jnp.abs((codebook * steering_vector(azimuth, antennas)).sum(-1)) ** 2
        np.testing.assert_allclose(gain, antennas, rtol=1e-5)


def test_the_best_beam_is_the_one_that_looks_at_the_user():
    azimuth = jnp.linspace(-jnp.deg2rad(40.0), jnp.deg2rad(40.0), 64)
    power = beam_powers(steering_vector(azimuth, 16)[:, None], steered_codebook())
    np.testing.assert_array_equal(power.argmax(-1), np.arange(64))


def test_sixteen_antennas_have_a_half_power_width_of_6_3_degrees():
    def excess(degrees):
        return float(jnp.abs(steering_vector(jnp.deg2rad(degrees), 16).sum() / 16) ** 2) - 0.5

    width = 2 * brentq(excess, 1.0, 5.0)
    assert abs(width - 6.3) < 0.1


def test_the_dft_codebook_is_unitary_and_ordered_by_azimuth():
    for antennas in (7, 16):
        codebook = np.asarray(dft_codebook(antennas))
        np.testing.assert_allclose(codebook @ codebook.conj().T, np.eye(antennas), atol=2e-6)
        sine = np.linspace(-1 + 1 / antennas, 1 - 1 / antennas, antennas)
        power = np.abs(codebook @ np.asarray(steering_vector(jnp.arcsin(sine), antennas)).T) ** 2
        np.testing.assert_allclose(np.diag(power), antennas, rtol=1e-5)


def test_codebooks_have_rows_of_unit_norm():
    for codebook in (steered_codebook(10, 12), dft_codebook(12)):
        np.testing.assert_allclose(jnp.linalg.norm(codebook, axis=-1), 1.0, rtol=1e-6)


def test_a_planar_array_is_the_product_of_two_linear_ones():
    azimuth, elevation = 0.4, -0.2
    vector = planar_steering_vector(azimuth, elevation, 3, 4)
    rows = np.exp(1j * np.pi * np.arange(3) * np.sin(elevation))
    columns = np.exp(1j * np.pi * np.arange(4) * np.sin(azimuth) * np.cos(elevation))
    np.testing.assert_allclose(vector, np.kron(rows, columns), atol=2e-6)


def test_at_the_horizon_a_planar_row_is_a_linear_array():
    azimuth = jnp.linspace(-1, 1, 5)
    np.testing.assert_allclose(planar_steering_vector(azimuth, 0.0, 1, 8), steering_vector(azimuth, 8), atol=1e-6)


def test_steering_works_under_jit_and_vmap():
    azimuth = jnp.linspace(-1, 1, 6).reshape(2, 3)
    vector = jax.jit(jax.vmap(lambda a: steering_vector(a, 4)))(azimuth)
    np.testing.assert_allclose(vector, steering_vector(azimuth, 4), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: steering_vector(jnp.zeros(2), 0), "antennas"),
        (lambda: steered_codebook(0), "beams"),
        (lambda: steered_codebook(sector=2.0), "sector"),
        (lambda: planar_steering_vector(0.0, 0.0, 0, 2), "rows"),
        (lambda: dft_codebook(-1), "antennas"),
    ],
)
def test_bad_sizes_are_named(call, name):
    with pytest.raises(InputError, match=f"^{name}: expected .*found"):
        call()
