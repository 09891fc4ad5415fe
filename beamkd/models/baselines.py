"""First works as baselines: the current beam from what one frame shows, without memory, or from where the car is.

All take frames [B, L, ...] and return `Output(logits [B, L + J, M], features [B, D])`; other arguments are as of the
LiDAR networks. Those of a frame say of the slots ahead what they say of the current one. Those of a position say it of
where the car will be at its mean velocity over the frames that are given; of a single frame, of where it stands.
"""

import functools
import math

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import BEAMS, Array, Output
from beamkd.models.layers import Dropout, Linear, in_pieces
from beamkd.models.maps import Conv2d

PIECE = 16
"""Maps that a CPU passes through the convolutions at once."""

SPACING = math.radians(0.6)
"""rad between the rays of a scan, whose middle one looks along broadside."""

CELL, ROWS, COLUMNS = 0.05, 40, 96
"""Of the occupancy grid: side of a cell in units of 10 m, cells along broadside from the station, cells along the
road, half of them to each side."""

FAR = 1e6
"""Position, in units of 10 m, of examples that only fill up: nothing is near them."""


class _OfFrame(nn.Module):
    """What networks of one frame share: its features, and a read-out of the beams."""

    def describe(self, frames: Array, train: bool, axis_name: str | None) -> Array:
        """Features [N, D] of frames [N, ...]; a network's own."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        frames: Array,
        future: int = 0,
        train: bool = False,
        slots: int | None = None,
        axis_name: str | None = None,
    ) -> Output:
        """Predict beams from `frames` [B, L, ...]."""
        batch, length, *shape = frames.shape
        features = self.describe(frames.reshape(batch * length, *shape), train, axis_name)
        logits = Linear(self.beams)(features).reshape(batch, length, -1)
        ahead = jnp.broadcast_to(logits[:, -1:], (batch, future, self.beams))
        logits = jnp.concatenate([logits, ahead], axis=1)
        features = features.reshape(batch, length, -1)
        return Output(logits if slots is None else logits[:, -slots:], features[:, -1], {"codes": features})


class _Convolutions(nn.Module):
    """Convolutions of maps [N, H, W], the last three followed by a mean over 2 x 2 cells: [N, size]."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, maps: Array) -> Array:
        layer = maps[..., None]
        for number, channels in enumerate(self.channels):
            layer = Conv2d(channels)(layer)
            if number >= len(self.channels) - 3:
                layer = nn.avg_pool(layer, window_shape=(2, 2), strides=(2, 2))
            layer = nn.relu(layer)
        return layer.reshape(layer.shape[0], -1)


class RadarLeNet(_OfFrame):
    """Five convolutions and three layers on one range-angle map (Demirhan and Alkhateeb, WCNC 2022).

    Maps are [B, L, H, W], H and W multiples of 8.
    """

    channels: tuple[int, ...] = (8, 16, 8, 4, 2)
    """Of the convolutions; the last three are followed by a mean over 2 x 2 cells."""
    hidden: tuple[int, ...] = (256, 128)
    beams: int = BEAMS

    def describe(self, frames: Array, train: bool, axis_name: str | None) -> Array:
        """Features of maps."""
        chex.assert_rank(frames, 3)
        layer = in_pieces(_Convolutions(self.channels), frames, PIECE)
        for features in self.hidden:
            layer = nn.relu(Linear(features)(layer))
        return layer


class OccupancyCnn(_OfFrame):
    """Convolutions on the cells of the ground that one scan hits (after Klautau et al., IEEE WCL 2019).

    Theirs has six convolutions on a grid in three dimensions; this one is of the size of our other networks. Scans are
    [B, L, R], ranges in units of 10 m.
    """

    channels: tuple[int, ...] = (8, 16)
    """Of the convolutions, each followed by the greatest of 2 x 2 cells."""
    hidden: int = 64
    dropout: float = 0.3
    beams: int = BEAMS

    def describe(self, frames: Array, train: bool, axis_name: str | None) -> Array:
        """Features of scans."""
        layer = occupancy(frames)[..., None]
        for channels in self.channels:
            layer = nn.max_pool(nn.relu(Conv2d(channels)(layer)), window_shape=(2, 2), strides=(2, 2))
        layer = nn.relu(Linear(self.hidden)(layer.reshape(layer.shape[0], -1)))
        return Dropout(self.dropout)(layer, train, axis_name)


def occupancy(scans: Array) -> Array:
    """Which cells of the ground a scan hits, seen from above.

    Args:
      scans: [N, R], ranges in units of 10 m, 0 where nothing is hit.

    Returns:
      [N, ROWS, COLUMNS] float32, 1 where a ray ends, else 0; what is outside is left out.
    """
    chex.assert_rank(scans, 2)
    count, rays = scans.shape
    angle = SPACING * (jnp.arange(rays) - rays // 2)
    row = jnp.floor(scans * jnp.cos(angle) / CELL).astype(int)
    column = jnp.floor(scans * jnp.sin(angle) / CELL).astype(int) + COLUMNS // 2
    inside = (scans > 0) & (row >= 0) & (row < ROWS) & (column >= 0) & (column < COLUMNS)
    row, column = jnp.where(inside, row, ROWS), jnp.where(inside, column, COLUMNS)
    empty = jnp.zeros((count, ROWS, COLUMNS))
    return empty.at[jnp.arange(count)[:, None], row, column].set(1.0, mode="drop")


class _OfPosition(nn.Module):
    """What the methods of a position share: where they are asked for the beam."""

    def scores(self, places: Array) -> Array:
        """Scores [..., M] of beams at places [..., 2]; a method's own."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        places: Array,
        future: int = 0,
        train: bool = False,
        slots: int | None = None,
        axis_name: str | None = None,
    ) -> Output:
        """Predict beams from `places` [B, L, 2], in units of 10 m."""
        chex.assert_shape(places, (None, None, 2))
        asked = go_on(places, future)
        logits = self.scores(asked if slots is None else asked[:, -slots:])
        return Output(logits, logits[:, -1])


def go_on(places: Array, future: int) -> Array:
    """Places [B, L, 2] and `future` more, each as far from the one before as the given ones are on average."""
    steps = max(places.shape[1] - 1, 1)
    step = (places[:, -1:] - places[:, :1]) / steps
    return jnp.concatenate([places, places[:, -1:] + step * jnp.arange(1, future + 1)[:, None]], axis=1)


class PositionNetwork(_OfPosition):
    """Dense layers on the position (Morais, Behboodi, Pezeshki and Alkhateeb, ICC 2023)."""

    hidden: tuple[int, ...] = (256, 256, 256)
    beams: int = BEAMS

    def scores(self, places: Array) -> Array:
        """Logits."""
        layer = places
        for features in self.hidden:
            layer = nn.relu(Linear(features)(layer))
        return Linear(self.beams)(layer)


class PositionTable(_OfPosition):
    """For each cell of the ground how often each beam was the best one there (Morais et al.); `fit_table` fills it."""

    bins: int = 25
    """Along each axis, over the places of the training windows."""
    beams: int = BEAMS

    def scores(self, places: Array) -> Array:
        """Scores of the cell that a place is in; of places outside, those at the edge."""
        low, high = (self.param(name, nn.initializers.zeros, (2,)) for name in ("low", "high"))
        table = self.param("table", nn.initializers.zeros, (self.bins**2, self.beams))
        return table[_cell(places, low, high, self.bins)]


def fit_table(places: Array, beams: Array, valid: Array, bins: int, number: int) -> dict[str, Array]:
    """A look-up table from examples. A cell without any says what the nearest one with some says.

    Args:
      places: [T, 2].
      beams: [T] int32, best beam at each.
      valid: [T] bool, False for rows that only fill up.
      bins: cells along each axis.
      number: M.

    Returns:
      What `PositionTable` has for weights: 'low' and 'high' [2], 'table' [bins², M].
    """
    low, high = (jnp.where(valid[:, None], places, bound) for bound in (jnp.inf, -jnp.inf))
    low, high = low.min(0), high.max(0)
    one_hot = jax.nn.one_hot(beams, number) * valid[:, None]
    votes = jnp.zeros((bins**2, number)).at[_cell(places, low, high, bins)].add(one_hot)
    centre = jnp.stack(jnp.divmod(jnp.arange(bins**2), bins), -1)
    distance = jnp.square(centre[:, None] - centre).sum(-1)
    nearest = jnp.where(votes.sum(-1) > 0, distance, 2 * bins**2).argmin(-1)
    return {"params": {"low": low, "high": high, "table": _ranked(votes)[nearest]}}


def _cell(places: Array, low: Array, high: Array, bins: int) -> Array:
    """Numbers [...] of the cells of places [..., 2]."""
    share = (places - low) / jnp.maximum(high - low, 1e-9)
    row, column = jnp.moveaxis(jnp.clip(jnp.floor(share * bins), 0, bins - 1).astype(int), -1, 0)
    return row * bins + column


class NearestNeighbours(_OfPosition):
    """How often each beam was the best one at the nearest places that are known (Morais et al.)."""

    neighbours: int = 5
    examples: int = 1
    """T, known places."""
    beams: int = BEAMS

    def scores(self, places: Array) -> Array:
        """Scores by the `neighbours` nearest of the known places; the axes count alike, as in `fit_neighbours`."""
        known = self.param("known", nn.initializers.zeros, (self.examples, 2))
        best = self.param("best", nn.initializers.zeros, (self.examples,))
        unit = self.param("unit", nn.initializers.ones, (2,))
        nearest = functools.partial(_nearest, known / unit, self.neighbours)
        found = nearest((places / unit).reshape(-1, 2))
        votes = jax.nn.one_hot(best[found].astype(int), self.beams).sum(-2)
        return _ranked(votes).reshape(*places.shape[:-1], -1)


def fit_neighbours(places: Array, beams: Array, valid: Array) -> dict[str, Array]:
    """What `NearestNeighbours` has for weights, from T examples as of `fit_table`.

    Distances are in units of the extent of the places along each axis.
    """
    low, high = (jnp.where(valid[:, None], places, bound) for bound in (jnp.inf, -jnp.inf))
    known = jnp.where(valid[:, None], places, FAR)
    unit = jnp.maximum(high.max(0) - low.min(0), 1e-9)
    return {"params": {"known": known, "best": beams.astype(jnp.float32), "unit": unit}}


def _nearest(known: Array, count: int, places: Array) -> Array:
    """Which `count` of the known places [T, 2] are nearest to each of `places` [N, 2]: [N, count]."""
    along, across = (places[:, None, axis] - known[:, axis] for axis in (0, 1))
    return jax.lax.top_k(-jnp.square(along) - jnp.square(across), count)[1]


def _ranked(votes: Array) -> Array:
    """Votes [..., M], of equals the more the nearer a beam is to the mean of those that have votes."""
    beams = jnp.arange(votes.shape[-1])
    mean = (votes * beams).sum(-1, keepdims=True) / jnp.maximum(votes.sum(-1, keepdims=True), 1)
    return votes - jnp.abs(beams - mean) / votes.shape[-1]
