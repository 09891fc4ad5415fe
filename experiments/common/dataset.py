"""What the studies of one network against another share: the data for every seed, and how networks do on them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from beamkd.base import FUTURE, Array, Drives, Model, Rows, as_taken
from beamkd.claims import METRICS
from beamkd.data import Dataset, deal, forward_of, make_windows, on_host, scenario_number
from beamkd.models import count_weights, save_network
from beamkd.models.layers import as_convolutions
from beamkd.training import (
    FitState,
    Scores,
    flops,
    from_primary,
    map_batches,
    mean_scores,
    score_batch,
    sums_by_drive,
    to_host,
)
from beamkd.training.hosts import agreed
from experiments.common.flags import Flags, data_origin, load_drives
from experiments.common.folder import NETWORKS
from experiments.common.places import place_of_drives
from experiments.common.run import Run


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network of all seeds, and how its training went.

    Attributes:
      model: with weights [members, ...].
      fit: None if it was loaded.
    """

    model: Model
    fit: FitState | None = None


def open_dataset(
    run: Run,
    config: Flags,
    future: int = FUTURE,
    load_drives: Callable[[Flags, Path], Drives] = load_drives,
    places: Array | None = None,
) -> tuple[Dataset, Array]:
    """Read or simulate the data that the flags name, and deal out the drives: the dataset, and a key a seed.

    Windows ask for `future` slots ahead. Drives of each of several folders, or `places`, are dealt out by themselves.
    """
    keys = jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.seeds))

    def load():
        windows = make_windows(load_drives(config, run.drives), future=future)
        folders = config.data_dir if config.source == "deepsense" else ()
        numbers = tuple(scenario_number(folder, config.scenario) for folder in folders)
        where = place_of_drives(config) if len(folders) > 1 else places
        return deal(keys, windows, config.split, data_origin(config), numbers, where)

    with run.phase("data"):
        dataset = agreed(load)  # each process has files of its own
    windows = dataset.windows
    frames, drives = len(windows.frames.power), sum(_drives(dataset).values())
    place = f", streamed from {run.drives}" if on_host(windows) else ""
    place += "" if dataset.sensors == ("lidar",) else f"; {', '.join(dataset.sensors)}"
    run.say(f"{config.source}: {frames} frames, {drives} drives, {len(windows)} windows{place}")
    return dataset, keys


def scorer(run: Run, dataset: Dataset, model: Model) -> Callable[[Any, Rows], Scores]:
    """A compiled function (params, rows) -> scores of all batches, [members, batches, ...], NumPy's arrays."""
    score = functools.partial(score_batch, forward_of(model, predicted_only=True))
    over_rows = map_batches(score, dataset.source(model.inputs), dataset.take, run.over_members, run.axis_name)
    return lambda params, rows: to_host(over_rows(params, rows))


def over_all_batches(scores: Scores) -> dict[str, Array]:
    """Metrics by name, [members, J + 1]."""
    return jax.vmap(mean_scores)(scores.replace(each={}, valid={}))


def keep_networks(run: Run, config: Flags, models: dict[str, Model]) -> None:
    """Write networks [members, ...] to the run's folder: NAME.safetensors of the first seed, or of each a file."""
    models = {name: (model, to_host(model.params)) for name, model in models.items()}

    def write():
        (run.folder / NETWORKS).mkdir(exist_ok=True)
        for name, (model, params) in models.items():
            for member in range(config.seeds if config.keep_seeds == "all" else 1):
                own = jax.tree.map(lambda leaf, member=member: leaf[member], params)
                file = f"{name}.seed{config.seed + member}" if member else name
                save_network(run.folder / NETWORKS / f"{file}.safetensors", dataclasses.replace(model, params=own))

    from_primary(write)


def evaluate_networks(
    run: Run, dataset: Dataset, networks: dict[str, Trained], parts: Mapping[str, Rows] | None = None
) -> tuple[dict[str, dict], dict[str, Any], dict[str, np.ndarray]]:
    """How networks do on the test split; those that `parts` names on these windows of it, the others masked.

    Returns:
      By network its metrics [members, J + 1] and, by_drive, what claims are judged by, as `beamkd.claims` says;
      'number' of the D drives that any member tests, and the 'counts' of `beamkd.claims`; and by network the beams
      predicted for current slots, [members, N].
    """
    test, parts = to_host((dataset.split.test, dict(parts or {})))
    drive = np.asarray(dataset.windows.drive)
    numbers = np.unique(drive[test.index[test.mask]])
    scorers, methods, beams, counts = {}, {}, {}, {}
    for name, network in networks.items():
        model = network.model
        program = model.module, *model.inputs.items()  # those that differ in their weights alone share one
        if program not in scorers:
            scorers[program] = scorer(run, dataset, model)
        rows = parts.get(name, test)
        scores = scorers[program](model.params, rows)
        sums, own = _by_drive(scores, rows, drive, numbers)
        counts = counts if name in parts else own
        methods[name] = {**over_all_batches(scores), "by_drive": sums}
        beams[name] = scores.beams.reshape(len(scores.beams), -1)
        if network.fit:
            methods[name] |= {"epochs": network.fit.epoch, "best_epoch": network.fit.best_epoch}
    return methods, {"number": numbers, "counts": counts}, beams


def _by_drive(scores: Scores, rows: Rows, drive: np.ndarray, numbers: np.ndarray) -> tuple[dict, dict]:
    """Sums over the windows of each drive, and their counts, by metric, [members, D, J + 1]."""
    chosen = scores.replace(
        **{part: {name: getattr(scores, part)[name] for name in METRICS} for part in ("each", "valid")}
    )
    members = [
        jax.tree.map(lambda leaf, member=member: leaf[member], (chosen, rows)) for member in range(len(rows.mask))
    ]
    totals = [sums_by_drive(scores, rows, drive, numbers) for scores, rows in members]
    sums, counts = jax.tree.map(lambda *leaves: np.stack(leaves), *totals)
    return jax.tree.map(lambda leaf: leaf.round(6), sums), jax.tree.map(lambda leaf: leaf.astype(int), counts)


def cost(dataset: Dataset, module: nn.Module) -> dict[str, float]:
    """Weights of a network of the dataset's sensors, and the operations that one window takes."""
    shapes = {name: leaf.shape for name, leaf in dataset.spec(dataset.sensors).items()}
    return cost_of(Model(module, None, shapes), future=dataset.future)


def cost_of(model: Model, **options: Any) -> dict[str, float]:
    """Weights of a network, and the operations that one input takes."""
    inputs = as_taken({name: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for name, shape in model.inputs.items()})
    params = jax.eval_shape(model.module.init, jax.random.key(0), inputs)
    with as_convolutions():
        operations = flops(lambda params, inputs: model.module.apply(params, inputs, **options), params, inputs)
    return {"parameters": count_weights(params), "flops_per_window": operations}


def describe(config: Flags, dataset: Dataset) -> dict[str, Any]:
    """The part 'data' of the results."""
    drives = _drives(dataset)
    parts = {name: getattr(dataset.split, name).mask.sum(-1) for name in drives}
    return {
        "source": config.source,
        "scenario": _one_or_all(dataset.scenarios),
        "origin": dataset.origin,
        "windows": {name: int(counts[0]) for name, counts in parts.items()},
        "windows_by_seed": parts,
        "drives": drives,
        "streamed": on_host(dataset.windows),
    }


def longest_test_drive(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, int]:
    """Of the first seed: rows of the test split, which of them are of its longest drive, and the number of this."""
    test = jax.tree.map(lambda leaf: np.asarray(leaf[0]), dataset.split.test)
    rows = test.index[test.mask]
    of_row = np.asarray(dataset.windows.drive)[rows]
    numbers, lengths = np.unique(of_row, return_counts=True)
    longest = numbers[lengths.argmax()]
    return rows, np.flatnonzero(of_row == longest), longest


def _one_or_all(scenarios: tuple[int, ...]) -> int | tuple[int, ...] | None:
    return scenarios if len(scenarios) > 1 else next(iter(scenarios), None)


def _drives(dataset: Dataset) -> dict[str, int]:
    """How many drives each part has, of the first seed."""
    drive, split = np.asarray(dataset.windows.drive), to_host(dataset.split)
    parts = {name: jax.tree.map(lambda leaf: leaf[0], getattr(split, name)) for name in ("train", "val", "test")}
    return {name: len(np.unique(drive[rows.index[rows.mask]])) for name, rows in parts.items()}
