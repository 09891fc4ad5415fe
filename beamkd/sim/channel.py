"""From paths to the array's channel, and from the channel to the receive power of each beam.

Products are of float32 in full, also where an accelerator would round their factors: best beams are often near ties.
"""

import chex
import jax.numpy as jnp

from beamkd.base import Array
from beamkd.sim.arrays import steering_vector
from beamkd.sim.paths import Paths


def channel(paths: Paths, antennas: int, subcarriers: int = 1, spacing: float = 1.0e6, time: float = 0.0) -> Array:
    """Channel of a linear array: the sum of the paths' steering vectors.

    h_k is the sum over paths of amplitude exp(j (phase - 2 pi f_k delay + 2 pi doppler time)) a(azimuth),
    with f_k the subcarrier's distance from the carrier, which is in their middle; Heath and Lozano,
    Foundations of MIMO Communication, 3.5.

    Args:
      paths: of any leading shape, [..., P].
      antennas: N.
      subcarriers: K; 1 is a narrowband channel.
      spacing: Hz between subcarriers.
      time: s since the paths were traced.

    Returns:
      [..., K, N] complex64.
    """
    chex.assert_equal_shape([paths.amplitude, paths.phase, paths.delay, paths.azimuth, paths.doppler])
    offset = spacing * (jnp.arange(subcarriers) - (subcarriers - 1) / 2)  # [K] Hz
    phase = paths.phase + 2 * jnp.pi * paths.doppler * time
    phase = phase[..., None, :] - 2 * jnp.pi * offset[:, None] * paths.delay[..., None, :]  # [..., K, P]
    gain = paths.amplitude[..., None, :] * jnp.exp(1j * phase)
    return jnp.matmul(gain, steering_vector(paths.azimuth, antennas), precision="highest")


def beam_powers(channels: Array, codebook: Array, noise_floor: float | Array = 0.0) -> Array:
    """Receive power of each beam: mean over subcarriers of |codebook row . channel|^2, on a noise floor.

    Args:
      channels: [..., K, N] complex.
      codebook: [M, N] complex, rows of unit norm.
      noise_floor: power of the noise in each beam, in the unit of |channel|^2; broadcasts to [..., M].

    Returns:
      [..., M] float32, linear.
    """
    chex.assert_rank(codebook, 2)
    chex.assert_equal_shape_suffix([channels, codebook], 1)
    # The complex absolute value would take a root, only to square it again.
    response = jnp.matmul(channels, codebook.T, precision="highest")
    return (response.real**2 + response.imag**2).mean(-2) + noise_floor
