"""Encoders of frames: what one sensor sees in a slot to a code, [N, ...] to [N, E], all with the same fields.

An all-zero frame, which stands for a slot that is not seen yet, has a code like any other.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import Array
from beamkd.models.layers import Conv1d, Linear
from beamkd.models.maps import EPSILON, PatchConv

NEAR_BINS = 128
"""Range bins of a radar map that are looked at, the first 25 m."""


class ScanEncoder(nn.Module):
    """Convolutions along the rays of each scan and a linear embedding."""

    channels: tuple[int, ...]
    embed: int

    @nn.compact
    def __call__(self, scans: Array) -> Array:
        """Codes [N, embed] of `scans` [N, R], in units of 10 m."""
        maps = scans[..., None]
        for channels in self.channels:
            maps = nn.relu(Conv1d(channels)(maps))
        return Linear(self.embed)(maps.reshape(maps.shape[0], -1))


class PlaceEncoder(nn.Module):
    """Layers on a position and a linear embedding."""

    channels: tuple[int, ...]
    embed: int

    @nn.compact
    def __call__(self, places: Array) -> Array:
        """Codes [N, embed] of `places` [N, 2], in units of 10 m."""
        layer = places
        for channels in self.channels:
            layer = nn.relu(Linear(channels)(layer))
        return Linear(self.embed)(layer)


class MapEncoder(nn.Module):
    """Convolutions of patches that do not overlap, each layer one product, and a linear embedding of all that is left.

    What stands where is not averaged away: the beam is read from it.
    """

    channels: tuple[int, ...]
    embed: int
    widths: tuple[int, ...] = (8, 2)
    """Of the patches of each layer."""

    @nn.compact
    def __call__(self, maps: Array) -> Array:
        """Codes [N, embed] of `maps` [N, H, W]."""
        layer = maps[..., None]
        for channels, width in zip(self.channels, self.widths, strict=True):
            layer = nn.relu(PatchConv(channels, width)(layer))
        return Linear(self.embed)(layer.reshape(layer.shape[0], -1))


class MaskEncoder(MapEncoder):
    """Of motion masks, 0 or 1, or between."""

    widths: tuple[int, ...] = (8, 4)


class DopplerEncoder(MapEncoder):
    """Of Doppler-angle maps [N, C, 64], magnitudes in any unit."""

    def __call__(self, maps: Array) -> Array:
        """Codes [N, embed] of `maps`."""
        return super().__call__(standard_logarithm(maps))


class RadarEncoder(DopplerEncoder):
    """Of range-angle maps [N, 256, 64], magnitudes in any unit; only what is near is looked at."""

    def __call__(self, maps: Array) -> Array:
        """Codes [N, embed] of `maps`."""
        return super().__call__(maps[:, :NEAR_BINS])


def standard_logarithm(maps: Array) -> Array:
    """log(1 + |maps|) of maps [N, H, W], of mean 0 and variance 1 within each map; 0 where a map is all the same.

    Their unit is the recording's own, and a few cells are a thousand times the others.
    """
    logarithm = jnp.log1p(jnp.abs(maps))
    centred = logarithm - logarithm.mean((1, 2), keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 2), keepdims=True) + EPSILON)


ENCODERS: Mapping[str, Callable[..., nn.Module]] = {
    "lidar": ScanEncoder,
    "radar": RadarEncoder,
    "doppler": DopplerEncoder,
    "masks": MaskEncoder,
    "gps": PlaceEncoder,
}
"""By the sensor's name: encoder(channels, embed), a module. They take what `beamkd.data.sensor_input` gives."""
