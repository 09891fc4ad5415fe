"""From simulated streets to a road: networks that never saw it, and what a few drives there are worth to them.

The array, and where a car carries its antenna, are known of one's own hardware: those of `--street`. Which road it will
stand at is not: streets differ in all else that a family has ranges of.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, Batch, Model, Rows, Windows, cached_method, named_keys
from beamkd.data import Dataset, deal
from beamkd.priors import simulated_windows, unused_streets
from beamkd.sim import Family, Street
from beamkd.training import FitConfig
from experiments.common.comparison import Comparison, Method
from experiments.common.dataset import Trained
from experiments.common.distillation import Distillation
from experiments.common.methods import student_of_sequences, teacher_of, train_on_labels
from experiments.common.recipes import PRIOR, Recipe

DRIVES = (1, 3, 10)
"""Of the road, that networks learn from; each contains those before."""

ALONE = FitConfig(epochs=60, patience=0)
"""Training on a few drives alone, which leave none to validate by."""

TUNED = FitConfig(epochs=30, patience=0, learning_rate=3e-4)
"""Training on them of a network that knows the streets."""

REPLAYED = 4
"""Windows of streets for each of the road's, where these are replayed."""


def transfer_grid(source: Distillation) -> list[Comparison]:
    """The network of the streets, as it is and after some drives of the road, beside those drives alone."""
    transfer = Transfer(source)
    rows = [
        Method("teacher", "trained on the road", lambda: source.teacher),
        Method("streets", "trained on simulated streets alone", lambda: transfer.streets, data_free=True),
    ]
    for count in DRIVES:
        drives = f"{count} drive{'s' * (count > 1)}"
        makers = {"alone": "{} alone", "tuned": "streets, then {}", "replayed": "streets, then {} and streets again"}
        for name, label in makers.items():
            train = functools.partial(getattr(transfer, name), count)
            rows.append(Method(f"{name}_{count}", label.format(drives), train))
        label = f"student of the one after {drives}, on streets"
        rows.append(Method(f"distilled_{count}", label, functools.partial(transfer.distilled, count)))
    return [Comparison("From simulated streets to the road", rows)]


@dataclasses.dataclass(frozen=True, eq=False)
class Transfer:
    """What networks of the grid start from.

    Attributes:
      source: the road.
    """

    source: Distillation

    @functools.cached_property
    def streets(self) -> Trained:
        """The teacher's network, trained on the beams of simulated drives."""
        return self._trained(self._on_streets, self._network, self.source.config.teacher_fit, "streets")

    def alone(self, count: int) -> Trained:
        """It, trained on a few drives."""
        return self._trained(self._few(count), self._network, ALONE, f"alone_{count}")

    def tuned(self, count: int) -> Trained:
        """That of the streets, trained further on a few drives."""
        return self._trained(self._few(count), self.streets.model, TUNED, f"tuned_{count}")

    @cached_method
    def replayed(self, count: int) -> Trained:
        """The same, with windows of streets among those of the road."""
        return self._trained(self._few_and_streets(count), self.streets.model, TUNED, f"replayed_{count}")

    def distilled(self, count: int) -> Trained:
        """A student of the network after a few drives, by its answers on simulated sequences."""
        source = self.source
        given = source.run, source.keys, source.dataset, self.replayed(count).model, source.student, self._sequences
        return student_of_sequences(*given, self._prior, f"distilled_{count}")

    @property
    def _prior(self) -> Recipe:
        """Streets of all kinds, as much of them as our recipe trains on."""
        return dataclasses.replace(PRIOR, **_sizes(self.source.config.beamkd))

    @functools.cached_property
    def _sequences(self) -> Batch:
        return self.source.generate(self._prior, "streets")

    def _trained(self, dataset: Dataset, model: Model, config: FitConfig, phase: str) -> Trained:
        return train_on_labels(self.source.run, self.source.keys, dataset, model, config, phase)

    @property
    def _network(self) -> Model:
        """Before any training."""
        return self.source.untrained(teacher_of(self.source.dataset, self.source.kind), "teacher")

    @functools.cached_property
    def _on_streets(self) -> Dataset:
        """Windows of simulated drives, as many as sequences of our recipe, with their beams."""
        source, config = self.source, self.source.config
        spec, family = source.dataset.spec(source.dataset.sensors), equipped(config.family, config.street)
        street_of = functools.partial(unused_streets, family, like=config.street)
        key, count = jax.random.fold_in(source.keys[0], 3), config.beamkd.sequences
        with source.run.phase("simulation"):
            windows = simulated_windows(key, street_of, count, spec, source.dataset.future)
            return deal(named_keys(source.keys, "streets"), windows)

    def _few(self, count: int) -> Dataset:
        """So many drives of the road to learn from; there are none to validate by."""
        return _unvalidated(with_drives(self.source.dataset, self.source.keys, count))

    def _few_and_streets(self, count: int) -> Dataset:
        """The same, and `REPLAYED` times as many windows of streets."""
        road, streets = self._few(count), self._on_streets
        own, others = (_unpadded(each.split.train) for each in (road, streets))
        first, rows = len(road.windows), []
        for key, few, many in zip(named_keys(self.source.keys, "replay"), own, others, strict=True):
            replayed = jax.random.choice(key, many, (REPLAYED * len(few),))
            rows.append(np.concatenate([few, first + np.asarray(replayed)]))
        return _with_train(dataclasses.replace(road, windows=joined(road.windows, streets.windows)), rows)


def equipped(family: Family, street: Street) -> Family:
    """The family with the array of a street, and the place of its cars' antennas."""
    across, along = street.body_offset
    known = {name: getattr(street, name) for name in ("boresight", "phase_error", "gain_ripple")}
    known |= {"body_across": across, "body_along": along}
    return dataclasses.replace(family, **{name: (value, value) for name, value in known.items()})


def joined(first: Windows, second: Windows) -> Windows:
    """All windows of two, those of `first` first; with the sensors that the first has."""
    frames, drives = len(first.frames.drive), int(np.max(first.frames.drive))
    other = second.frames.replace(
        sensors={name: second.frames.sensors[name] for name in first.frames.sensors},
        drive=second.frames.drive + drives,
    )
    later = second.replace(
        frames=other,
        observed=second.observed + frames,
        predicted=jnp.where(second.predicted < 0, second.predicted, second.predicted + frames),
        drive=second.drive + drives,
    )
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), first, later)


def with_drives(dataset: Dataset, keys: Array, count: int) -> Dataset:
    """With so many drives to train on, of each seed's own, in an order that is drawn: fewer are some of more."""
    drive = np.asarray(dataset.windows.drive)
    rows = zip(named_keys(keys, "drives"), _unpadded(dataset.split.train), strict=True)
    return _with_train(dataset, [_of_drives(key, drive, own, count) for key, own in rows])


def _with_train(dataset: Dataset, rows: list[np.ndarray]) -> Dataset:
    """With these rows to train on, of each seed."""
    longest = max(map(len, rows))
    index, mask = (
        np.stack([np.pad(each, (0, longest - len(each))) for each in parts])
        for parts in (rows, [np.ones(len(own), bool) for own in rows])
    )
    return dataclasses.replace(dataset, split=dataset.split.replace(train=Rows(index.astype(np.int32), mask)))


def _unvalidated(dataset: Dataset) -> Dataset:
    return dataclasses.replace(dataset, split=dataset.split.replace(val=None))


def _of_drives(key: Array, drive: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Those of some rows that are of the first so many of their drives, in an order that is drawn."""
    drives = np.asarray(jax.random.permutation(key, np.unique(drive[rows])))[:count]
    return rows[np.isin(drive[rows], drives)]


def _unpadded(rows: Rows) -> list[np.ndarray]:
    return [np.asarray(index)[np.asarray(mask)] for index, mask in zip(rows.index, rows.mask, strict=True)]


def _sizes(recipe: Recipe) -> dict[str, Any]:
    """How much a recipe trains on."""
    return {name: getattr(recipe, name) for name in ("sequences", "held_out", "dfkd_fit")}
