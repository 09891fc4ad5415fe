"""Building materials and how much they reflect: Recommendation ITU-R P.2040-3 (2023)."""

import math

import chex
import jax.numpy as jnp

from beamkd.base import Array, InputError

MATERIALS = {
    "concrete": (5.24, 0.0, 0.0462, 0.7822),
    "brick": (3.91, 0.0, 0.0238, 0.16),
    "wood": (1.99, 0.0, 0.0047, 1.0718),
    "glass": (6.31, 0.0, 0.0036, 1.3394),
    "metal": (1.0, 0.0, 1e7, 0.0),
}
"""a, b, c, d of each material, table 3: relative permittivity a f^b, conductivity c f^d in S/m, f in GHz."""

VACUUM_PERMITTIVITY = 8.8541878128e-12
"""F/m."""


def permittivity(material: str, frequency: float = 60e9) -> complex:
    """Complex relative permittivity of a material, equations 28, 29 and 9b of ITU-R P.2040-3.

    Args:
      material: a name in `MATERIALS`.
      frequency: Hz.

    Returns:
      eta = eps_r - j sigma / (2 pi f eps_0).

    Raises:
      InputError: the material is unknown.
    """
    if material not in MATERIALS:
        raise InputError(f"material: expected one of {', '.join(MATERIALS)}, found {material!r}")
    a, b, c, d = MATERIALS[material]
    gigahertz = frequency / 1e9
    conductivity = c * gigahertz**d
    return complex(a * gigahertz**b, -conductivity / (2 * math.pi * frequency * VACUUM_PERMITTIVITY))


def fresnel(cosine: Array, eta: Array) -> tuple[Array, Array]:
    """Reflection coefficients of a thick, smooth slab in air, equations 31a and 31b of ITU-R P.2040-3.

    Args:
      cosine: [...] float, cosine of the angle between the ray and the slab's normal.
      eta: [...] complex, relative permittivity.

    Returns:
      TE, for a field across the plane of incidence (vertical antennas, upright wall), and TM, for a field
      within it; each [...] complex64.
    """
    chex.assert_type(cosine, float)
    eta = jnp.asarray(eta, jnp.complex64)
    root = jnp.sqrt(eta - (1 - cosine**2))
    return (cosine - root) / (cosine + root), (eta * cosine - root) / (eta * cosine + root)
