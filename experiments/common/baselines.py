"""Baselines for all seeds: methods of a position, and networks of one frame."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from beamkd.base import MISSING, Array, Batch, Model, Rows, named_keys
from beamkd.data import Dataset, forward_of, gather, sensor_input
from beamkd.models import NearestNeighbours, PositionTable, fit_neighbours, fit_table
from beamkd.training import FitConfig, supervised_task
from experiments.common.dataset import Trained
from experiments.common.run import Run

POSITION = "gps"
"""The sensor that says where the car is."""


def with_positions(dataset: Dataset) -> Dataset:
    """The same dataset with recorded positions for a sensor, where no receiver is among its sensors."""
    windows = dataset.windows
    sensors = {POSITION: windows.frames.position, **windows.frames.sensors}
    frames = windows.frames.replace(sensors=sensors)
    return dataclasses.replace(dataset, windows=windows.replace(frames=frames))


def table_of_positions(run: Run, dataset: Dataset) -> Trained:
    """A look-up table of the training windows' current positions."""
    module = PositionTable(beams=dataset.beams)
    return _fitted(run, dataset, module, functools.partial(fit_table, bins=module.bins, number=module.beams))


def neighbours_of_positions(run: Run, dataset: Dataset) -> Trained:
    """Nearest neighbours among the training windows' current positions."""
    examples = dataset.split.train.index.shape[-1]
    return _fitted(run, dataset, NearestNeighbours(examples=examples, beams=dataset.beams), fit_neighbours)


def at_velocity(method: Trained, dataset: Dataset) -> Trained:
    """A method of the current position that sees all observed ones, by which it goes on at constant velocity."""
    inputs = {name: (dataset.observed, *shape[1:]) for name, shape in method.model.inputs.items()}
    return dataclasses.replace(method, model=dataclasses.replace(method.model, inputs=inputs))


def train_on_current_slot(
    run: Run, keys: Array, dataset: Dataset, model: Model, config: FitConfig, phase: str
) -> Trained:
    """A network trained on the beams of current slots alone."""

    def take(data: Any, rows: Rows) -> Batch:
        batch = dataset.take(data, rows)
        return batch.replace(labels=batch.labels.at[:, 1:].set(MISSING))

    task, split = supervised_task(forward_of(model, predicted_only=True), take, config), dataset.split
    own, data = named_keys(keys, f"{phase} fit"), dataset.source(model.inputs)
    fit = run.train(phase, task, own, model.params, data, split.train, split.val)
    return Trained(dataclasses.replace(model, params=fit.best), fit)


def _fitted(run: Run, dataset: Dataset, module: nn.Module, fit: Callable[..., Any]) -> Trained:
    """What fit(places, beams, valid) makes of each seed's training windows."""

    def one(windows, rows):
        batch = gather(windows, rows)
        places, beams = sensor_input(POSITION, frames=1)(batch)[:, 0], batch.labels[:, 0]
        return fit(places, beams, beams >= 0)

    params = run.over_members(one, (None, 0))(dataset.source([POSITION]), dataset.split.train)
    return Trained(Model(module, params, {POSITION: (1, 2)}))
