"""Latitude and longitude to metres around a base station, and back."""

import numpy as np

EARTH_RADIUS = 6_378_137.0
"""Metres, equatorial, of WGS 84. A sphere is enough: over 20 m of street the ellipsoid differs by
centimetres, less than GPS errs; and published Scenario 8 positions are made with it."""


def to_metres(place: np.ndarray, origin: np.ndarray, broadside: float = 0.0) -> np.ndarray:
    """Position in the plane that touches the earth at a base station.

    Args:
      place: [..., 2] float64, degrees latitude and longitude.
      origin: [..., 2] float64, degrees latitude and longitude of the base station.
      broadside: where the base station's array faces, degrees from east, counter-clockwise seen from above.

    Returns:
      [..., 2] float64, metres along broadside and 90° counter-clockwise of it: east and north by default.
    """
    latitude, longitude = np.moveaxis(np.deg2rad(np.subtract(place, origin)), -1, 0)
    east = EARTH_RADIUS * np.cos(np.deg2rad(np.asarray(origin)[..., 0])) * longitude
    north = EARTH_RADIUS * latitude
    cos, sin = np.cos(np.deg2rad(broadside)), np.sin(np.deg2rad(broadside))
    return np.stack([east * cos + north * sin, north * cos - east * sin], -1)


def to_degrees(position: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Latitude and longitude of a position: the inverse of `to_metres` with broadside to the east.

    Args:
      position: [..., 2] metres east and north of the base station.
      origin: [..., 2] float64, degrees latitude and longitude of the base station.

    Returns:
      [..., 2] float64, degrees latitude and longitude.
    """
    east, north = np.moveaxis(np.asarray(position, np.float64), -1, 0)
    longitude = east / (EARTH_RADIUS * np.cos(np.deg2rad(np.asarray(origin)[..., 0])))
    return np.asarray(origin) + np.rad2deg(np.stack([north / EARTH_RADIUS, longitude], -1))
