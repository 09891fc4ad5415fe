"""Antenna arrays and codebooks.

Antennas stand half a wavelength apart along y; an azimuth is measured from broadside, increasing towards +y.
A beam of unit norm steered at the user has the power N, the number of antennas.
"""

import chex
import jax.numpy as jnp
import numpy as np

from beamkd.base import BEAMS, Array, InputError


def steering_vector(azimuth: Array, antennas: int) -> Array:
    """Response of a uniform linear array, antennas half a wavelength apart.

    Entry n is exp(j pi n sin(azimuth)); Balanis, Antenna Theory, 6.3.

    Args:
      azimuth: [...] float, rad from broadside.
      antennas: N.

    Returns:
      [..., N] complex64, entries of unit modulus.

    Raises:
      InputError: antennas < 1.
    """
    _check_count("antennas", antennas)
    azimuth = jnp.asarray(azimuth)
    chex.assert_type(azimuth, float)
    return _phasor(jnp.pi * jnp.arange(antennas) * jnp.sin(azimuth)[..., None])


def planar_steering_vector(azimuth: Array, elevation: Array, rows: int, columns: int) -> Array:
    """Response of a uniform planar array, upright, half a wavelength between rows and between columns.

    Entry (r, c) is exp(j pi (r sin(elevation) + c sin(azimuth) cos(elevation))); Balanis, 6.10.

    Args:
      azimuth: [...] float, rad from broadside.
      elevation: [...] float, rad above the horizon.
      rows: antennas along the vertical.
      columns: antennas along the horizontal.

    Returns:
      [..., rows * columns] complex64, row by row, entries of unit modulus.

    Raises:
      InputError: rows < 1 or columns < 1.
    """
    _check_count("rows", rows)
    _check_count("columns", columns)
    azimuth, elevation = jnp.broadcast_arrays(jnp.asarray(azimuth), jnp.asarray(elevation))
    chex.assert_type([azimuth, elevation], float)
    up = jnp.arange(rows)[:, None] * jnp.sin(elevation)[..., None, None]
    side = jnp.arange(columns) * (jnp.sin(azimuth) * jnp.cos(elevation))[..., None, None]
    return _phasor(jnp.pi * (up + side)).reshape(*azimuth.shape, rows * columns)


def steered_codebook(beams: int = BEAMS, antennas: int = 16, sector: float = np.deg2rad(40.0)) -> Array:
    """Beams steered at azimuths evenly spread over the sector, beam 0 at -sector, the last at +sector.

    Args:
      beams: M.
      antennas: N.
      sector: rad, half the width of the sector.

    Returns:
      [M, N] complex64, rows of unit norm; |row . steering_vector|^2 is N where the row looks.

    Raises:
      InputError: beams < 1, antennas < 1, or a sector outside (0, pi / 2].
    """
    _check_count("beams", beams)
    if not 0 < sector <= np.pi / 2:
        raise InputError(f"sector: expected half a width in (0, pi/2] rad, found {sector}")
    azimuth = jnp.linspace(-sector, sector, beams) if beams > 1 else jnp.zeros(1)
    return jnp.conj(steering_vector(azimuth, antennas)) / jnp.sqrt(antennas)


def dft_codebook(antennas: int) -> Array:
    """N orthogonal beams of N antennas, ordered by azimuth: row m looks at sin(azimuth) = (2 m + 1 - N) / N.

    Args:
      antennas: N.

    Returns:
      [N, N] complex64, a unitary matrix.

    Raises:
      InputError: antennas < 1.
    """
    _check_count("antennas", antennas)
    sine = (2 * jnp.arange(antennas) + 1 - antennas) / antennas
    return _phasor(-jnp.pi * sine[:, None] * jnp.arange(antennas)) / jnp.sqrt(antennas)


def _phasor(phase: Array) -> Array:
    return jnp.exp(1j * phase.astype(jnp.float32))


def _check_count(name: str, count: int) -> None:
    if count < 1:
        raise InputError(f"{name}: expected at least 1, found {count}")
