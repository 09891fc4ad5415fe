"""What the studies of one network against another share: the data with their splits, and networks for every seed."""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from beamkd.base import Array, Batch, Forward, Model, Rows, Windows
from beamkd.claims import METRICS
from beamkd.data import (
    Split,
    gather,
    lidar_input,
    make_windows,
    on_host,
    origin,
    select,
    split_drives,
    stack_splits,
)
from beamkd.models import count_weights, network, save_network
from beamkd.training import (
    FitState,
    Scores,
    Stream,
    flops,
    from_primary,
    map_batches,
    mean_scores,
    score_batch,
    sums_by_drive,
    to_host,
)
from beamkd.training.evaluate import EVALUATION_BATCH
from beamkd.training.hosts import agreed
from experiments.common.flags import Flags, load_drives
from experiments.common.folder import NETWORKS
from experiments.common.run import Run


@dataclasses.dataclass(frozen=True)
class Net:
    """A network with its weights for every seed.

    Attributes:
      module: the Flax module.
      forward: it as a function of batches.
      predict: the same, with the logits of the predicted slots alone.
      params: its weights, [members, ...].
      fit: how its training went; None if it was loaded.
    """

    module: nn.Module
    forward: Forward
    predict: Forward
    params: Any
    fit: FitState | None = None

    @classmethod
    def of(cls, module: nn.Module, params: Any) -> "Net":
        """A network of scans."""
        return cls(module, network(module, lidar_input), network(module, lidar_input, predicted_only=True), params)

    def trained(self, fit: FitState) -> "Net":
        """The same network with the weights that training chose."""
        return dataclasses.replace(self, params=fit.best, fit=fit)


@dataclasses.dataclass(frozen=True)
class World:
    """What all phases share.

    Attributes:
      windows: W windows of real or simulated drives.
      split: rows of each part, [members, N].
      keys: [members], one a seed.
      drives: how many drives each part has.
      origin: what a folder says of how it came about; None if it says nothing.
    """

    windows: Windows
    split: Split
    keys: Array
    drives: dict[str, int]
    origin: str | None = None

    @property
    def data(self) -> Windows | Stream:
        """The windows, or a stream of them where their frames do not live on the device."""
        return Stream(functools.partial(gather, self.windows)) if on_host(self.windows) else self.windows

    @property
    def take(self) -> Callable[[Any, Rows], Batch]:
        """How batches are taken from `data`, or from what was read of the stream."""
        return select if on_host(self.windows) else gather

    @property
    def scans(self) -> tuple[int, int, int]:
        """Shape of one window's scans, [1, L, R]."""
        return 1, self.windows.observed.shape[1], self.windows.frames.sensors["lidar"].shape[-1]

    @property
    def future(self) -> int:
        """J."""
        return self.windows.predicted.shape[1] - 1

    @property
    def beams(self) -> int:
        """M."""
        return self.windows.frames.power.shape[-1]

    def draws(self, name: str) -> Array:
        """Keys for one purpose, [members]."""
        return jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(name.encode())))(self.keys)

    def models(self, nets: dict[str, Net]) -> dict[str, Model]:
        """Networks of scans as they are saved, with weights [members, ...]."""
        return {name: Model(net.module, net.params, self.scans[1:]) for name, net in nets.items()}

    def net(self, module: nn.Module, name: str) -> Net:
        """A network of scans with its initial weights, for which one frame will do."""
        return Net.of(module, init_weights(module, self.draws(name), (1, 1, self.scans[-1])))


def init_weights(module: nn.Module, keys: Array, shape: tuple[int, ...]) -> Any:
    """Initial weights of `module` for inputs of `shape`, [members, ...]."""
    return jax.jit(jax.vmap(lambda key: module.init(key, jnp.zeros(shape))))(keys)


def open_world(run: Run, config: Flags) -> World:
    """Read or simulate the data that the flags name, and deal out the drives for every seed."""
    keys = jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.seeds))

    def load():
        windows = make_windows(load_drives(config, run.drives))
        said = origin(config.data_dir, config.scenario) if config.source == "deepsense" else None
        return windows, [split_drives(key, windows, config.split) for key in keys], said

    with run.phase("data"):
        windows, splits, said = agreed(load)  # each process has files of its own
    parts = {name: getattr(splits[0], name) for name in ("train", "val", "test")}
    drives = {name: len(np.unique(np.asarray(windows.drive)[rows.index])) for name, rows in parts.items()}
    frames = len(windows.frames.power)
    place = f", streamed from {run.drives}" if on_host(windows) else ""
    run.say(f"{config.source}: {frames} frames, {sum(drives.values())} drives, {len(windows)} windows{place}")
    return World(windows, stack_splits(splits), keys, drives, said)


def over_batches(run: Run, world: World, function: Callable[[Any, Batch], Any]) -> Callable[[Any, Rows], Any]:
    """Compile function(params, batch) into one over many rows, as `beamkd.training.map_batches` says."""
    return map_batches(function, world.data, world.take, EVALUATION_BATCH, run.map)


def scorer(run: Run, world: World, predict: Forward) -> Callable[[Any, Rows], Scores]:
    """A compiled function (params, rows) -> scores of all batches, [members, batches, ...], NumPy's arrays."""
    score = over_batches(run, world, functools.partial(score_batch, predict))
    return lambda params, rows: to_host(score(params, rows))


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


def evaluate_nets(
    run: Run, world: World, nets: dict[str, Net]
) -> tuple[dict[str, dict], dict[str, Any], dict[str, np.ndarray]]:
    """How networks do on the test split.

    Returns:
      By network its metrics [members, J + 1] and, by_drive, what claims are judged by, as `beamkd.claims` says;
      'number' of the D drives that any member tests, and the 'counts' of `beamkd.claims`; and by network the beams
      predicted for current slots, [members, N].
    """
    scorers = {predict: scorer(run, world, predict) for predict in {net.predict for net in nets.values()}}
    test, drive = to_host(world.split.test), np.asarray(world.windows.drive)
    numbers = np.unique(drive[test.index[test.mask]])
    methods, beams, counts = {}, {}, {}
    for name, net in nets.items():
        scores = scorers[net.predict](net.params, world.split.test)
        sums, counts = _by_drive(scores, test, drive, numbers)
        methods[name] = {**over_all_batches(scores), "by_drive": sums}
        beams[name] = scores.beams.reshape(len(scores.beams), -1)
        if net.fit:
            methods[name] |= {"epochs": net.fit.epoch, "best_epoch": net.fit.best_epoch}
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


def cost(world: World, module: nn.Module) -> dict[str, float]:
    """Weights of a network of scans, and the operations that one window takes."""
    return cost_of(module, world.scans, future=world.future)


def cost_of(module: nn.Module, shape: tuple[int, ...], **options: Any) -> dict[str, float]:
    """Weights of a network, and the operations that one input of `shape` takes."""
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), inputs)
    operations = flops(lambda params, inputs: module.apply(params, inputs, **options), params, inputs)
    return {"parameters": count_weights(params), "flops_per_window": operations}


def describe(config: Flags, world: World) -> dict[str, Any]:
    """The part 'data' of the results."""
    parts = {name: getattr(world.split, name).mask.sum(-1) for name in world.drives}
    return {
        "source": config.source,
        "scenario": config.scenario if config.source == "deepsense" else None,
        "origin": world.origin,
        "windows": {name: int(counts[0]) for name, counts in parts.items()},
        "windows_by_seed": parts,
        "drives": world.drives,
        "streamed": on_host(world.windows),
    }
