"""Streets that a teacher's owner may have driven: those whose drives look to the teacher as its metadata say.

Nothing is trained. A family of streets is narrowed, round by round, to those whose statistics come nearest: the
cross-entropy method (Rubinstein, Methodology and Computing in Applied Probability, 1999) with uniform distributions.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, Batch, Forward, InputError, Metadata, Model, Rows, expect_at_least
from beamkd.data import forward_of, gather, make_windows
from beamkd.inversion import layers_of, statistics_of_layers
from beamkd.priors import simulated_drives
from beamkd.sim import Family
from beamkd.training import Trainer, to_host

ANY = Family()
"""All streets that there may be."""


@dataclasses.dataclass(frozen=True)
class StreetSearch:
    """How a family is narrowed."""

    rounds: int = 3
    """How often; 0: not at all, and no metadata are needed."""
    streets: int = 400
    """That are tried in a round."""
    drives: int = 8
    """Along each: on some roads cars go in several lanes, and both ways."""
    windows: int = 5
    """Of each drive, evenly spread."""
    kept: float = 0.08
    """Share of the streets, the nearest ones, among which the next round's are drawn."""

    def __post_init__(self):
        expect_at_least(self, rounds=0, streets=2, drives=1, windows=2)
        if not 1 / self.streets <= self.kept <= 1:
            raise InputError(f"search: expected to keep a share from 1 / {self.streets} to 1, found {self.kept}")


def matching_families(
    trainer: Trainer,
    key: Array,
    teacher: Model,
    summaries: Metadata,
    spec: Mapping[str, jax.ShapeDtypeStruct],
    future: int,
    search: StreetSearch = StreetSearch(),
    family: Family = ANY,
    first: int = 0,
) -> list[Family]:
    """For each teacher the streets of a family that its owner's may be among.

    Args:
      trainer: a `Trainer`, or what spreads members over devices in its place; here members are streets.
      key: PRNG key of the drives.
      teacher: with weights [members, ...].
      summaries: the teachers' metadata, with those of layers, [members, ...].
      spec: of their sensors, as `Dataset.spec` gives them.
      future: J.
      search: how.
      family: of all streets that there may be.
      first: number of the first street that is tried.

    Returns:
      The families, [members].
    """
    far = trainer.over_members(functools.partial(distance, forward_of(teacher)), (None, None, 0))
    owned = [jax.tree.map(lambda leaf, n=n: leaf[n], (teacher.params, summaries)) for n in range(len(summaries.mean))]

    def distances(number: int, tried: np.ndarray, families: list[Family]) -> list[np.ndarray]:
        @functools.lru_cache(maxsize=1)  # all teachers have the same family in the first round
        def seen(own: Family) -> Batch:
            streets = own.streets(np.repeat(tried, search.drives).tolist())
            return _batches(jax.random.fold_in(key, number), streets, spec, future, search)

        return [to_host(far(*its, seen(own))) for its, own in zip(owned, families, strict=True)]

    return narrowed(distances, search, [family] * len(owned), first)


def narrowed(
    distances: Callable[[int, np.ndarray, list[Family]], list[np.ndarray]],
    search: StreetSearch,
    families: list[Family],
    first: int = 0,
) -> list[Family]:
    """Families after all rounds.

    Args:
      distances: distances(round, tried, families) -> of each family, how far its streets of the numbers `tried`
        [search.streets] are; NaN where that is not known.
      search: how.
      families: before the first round.
      first: number of the first street that is tried.
    """
    kept = round(search.kept * search.streets)
    for number in range(search.rounds):
        tried = first + number * search.streets + np.arange(search.streets)
        found = np.nan_to_num(distances(number, tried, families), nan=np.inf)
        nearest = tried[np.argsort(found, axis=-1, kind="stable")[:, :kept]]
        families = [family.narrowed(own) for family, own in zip(families, nearest.tolist(), strict=True)]
    return families


def distance(teacher: Forward, params: Any, summary: Metadata, batch: Batch) -> Array:
    """How far a street's windows are from the owner's: `statistics_of_layers`; NaN of fewer than two."""
    found = statistics_of_layers(layers_of(teacher(params, batch, None)), summary.layers, batch.mask)
    return jnp.where(batch.mask.sum() > 1, found, jnp.nan)


def _batches(
    key: Array, streets: Any, spec: Mapping[str, jax.ShapeDtypeStruct], future: int, search: StreetSearch
) -> Batch:
    """Windows of each street, [streets, drives × windows, ...]."""
    (observed,) = {leaf.shape[0] for leaf in spec.values()}
    drives = simulated_drives(key, streets, len(streets.lane), spec)
    windows = make_windows(drives, observed, future)
    rows = _spread(np.asarray(windows.drive), len(streets.lane), search.windows)
    return gather(windows, jax.tree.map(lambda leaf: leaf.reshape(search.streets, -1), rows))


def _spread(drive: np.ndarray, drives: int, count: int) -> Rows:
    """So many windows of each drive, evenly spread, [drives, count], of the drive of each window [N], in order."""
    numbers = np.arange(1, drives + 1)
    begin, end = (np.searchsorted(drive, numbers, side) for side in ("left", "right"))
    place = begin[:, None] + (end - begin - 1)[:, None] * np.linspace(0, 1, count)
    there = np.broadcast_to((end > begin)[:, None], place.shape)
    return Rows(np.where(there, place.round(), 0).astype(np.int32), there)
