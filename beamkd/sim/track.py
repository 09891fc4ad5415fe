"""LiDAR scans for recordings that come without them, cast along the car's measured positions."""

import jax
import jax.numpy as jnp

from beamkd.base import Array
from beamkd.sim.geometry import Boxes
from beamkd.sim.lidar import RAYS, cast_rays
from beamkd.sim.street import BODY, LIDAR_OFFSET

ALONG_ROAD = jnp.pi / 2
"""Radians from broadside: the way the car heads."""


@jax.jit
def cast_track(position: Array) -> Array:
    """Scans of one car at measured positions, without noise or clutter.

    Args:
      position: [F, 2] float32, metres along broadside and along the road, of the GPS tracker.

    Returns:
      [F, 216] float32, range in metres of each ray, 0 where nothing is hit.
    """

    def scan(centre):
        car = Boxes(centre[None], jnp.array([BODY]), jnp.array([ALONG_ROAD]))
        return cast_rays(jnp.asarray(RAYS), car)

    ranges = jax.vmap(scan)(position + jnp.array(LIDAR_OFFSET))
    return jnp.where(jnp.isfinite(ranges), ranges, 0.0)
