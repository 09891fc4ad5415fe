"""The steps of a study, for all seeds: networks that are trained or loaded, generators and sequences by a recipe."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import Array, Batch, InputError, Metadata, Model, Rows, named_keys
from beamkd.data import Dataset, forward_of, gather, initial_model, sensor_batch, sensor_input
from beamkd.distill import distill_on_sequences
from beamkd.inversion import generate_sequences, initial_generator, train_generators
from beamkd.losses import Loss, cross_entropy
from beamkd.models import (
    CnnGruTeacher,
    Generator,
    GruTeacher,
    PatchStudent,
    SceneGenerator,
    SensorStudent,
    SensorTeacher,
    load_network,
    published_model,
)
from beamkd.models.scene import Scene
from beamkd.priors import UNUSED, simulated_windows, unused_streets
from beamkd.scenes import render
from beamkd.search import ANY, matching_families
from beamkd.sim import Family, Street
from beamkd.training import FitConfig, FitState, supervised_task
from experiments.common.dataset import Trained
from experiments.common.folder import NETWORKS
from experiments.common.recipes import Recipe
from experiments.common.run import Run

TEACHERS = {"cnn_gru": CnnGruTeacher, "gru": GruTeacher}
"""Of LiDAR alone."""

KEPT: dict[str, Callable[[Array], Array]] = {
    "radar": lambda maps: maps.astype(jnp.bfloat16),
    "doppler": lambda maps: maps.astype(jnp.bfloat16),
    "masks": lambda masks: masks > 0.5,
}
"""By sensor: how frames are kept. Networks take the logarithm of a map, to which the digits that it loses are nothing;
masks become bits."""

Origin = Model | list[Family]
"""Where sequences come from: generators [members, generators, ...], or of each seed the streets to simulate along."""

SCANS = ("lidar",)
"""The sensors for which there are networks and generators of the paper's own."""


def teacher_of(dataset: Dataset, kind: str) -> nn.Module:
    """A teacher of the dataset's sensors: of LiDAR alone of a kind out of `TEACHERS`."""
    if dataset.sensors == SCANS:
        return TEACHERS[kind](beams=dataset.beams)
    return SensorTeacher(sensors=dataset.sensors, beams=dataset.beams)


def student_of(dataset: Dataset, **sizes: int) -> nn.Module:
    """A student of the dataset's sensors."""
    if dataset.sensors == SCANS:
        return PatchStudent(beams=dataset.beams, **sizes)
    return SensorStudent(sensors=dataset.sensors, beams=dataset.beams, **sizes)


def untrained(keys: Array, dataset: Dataset, module: nn.Module, name: str) -> Model:
    """A network of the dataset's sensors with its initial weights."""
    return initial_model(named_keys(keys, name), module, dataset.spec(dataset.sensors))


def load_teacher(dataset: Dataset, members: int, path: Path) -> Model:
    """A teacher from a file, the same for every seed.

    Args:
      dataset: what it is for.
      members: number of seeds.
      path: an .npz of a published network, a .safetensors of a run, or a run's folder, whose teacher it then is.

    Raises:
      InputError: there is none, or it is for other sensors, more frames or other beams.
    """
    spec = {name: leaf.shape for name, leaf in dataset.spec(dataset.sensors).items()}
    if path.suffix == ".npz":
        # A mask is of two frames: networks of masks see one less.
        model = published_model(path, dataset.observed - ("masks" in spec))
    else:
        path = path / NETWORKS / "teacher.safetensors" if path.is_dir() else path
        model = load_network(path)
    if model.inputs.keys() != spec.keys() or not hasattr(model.module, "beams"):
        found = f"a {type(model.module).__name__} of {', '.join(model.inputs)}"
        raise InputError(f"{path}: expected a network of {', '.join(spec)}, found {found}")
    for name, (most, *frame) in spec.items():
        frames, *shape = model.inputs[name]
        if frames > most or (shape, model.module.beams) != (frame, dataset.beams):
            size = f"{frame[0]} rays" if name == "lidar" else f"{' x '.join(map(str, frame))} of {name}"
            found = f"{frames}, {' x '.join(map(str, shape))} and {model.module.beams}"
            expected = f"at most {most} frames, {size} and {dataset.beams} beams"
            raise InputError(f"{path}: expected a network for {expected}, found {found}")
    return dataclasses.replace(model, params=_repeat(model.params, members))


def train_on_labels(
    run: Run,
    keys: Array,
    dataset: Dataset,
    model: Model,
    config: FitConfig,
    phase: str,
    loss: Loss = cross_entropy,
) -> Trained:
    """A network trained on the real labels: the teacher, or the student without any."""
    task, split = supervised_task(forward_of(model, predicted_only=True), dataset.take, config, loss), dataset.split
    own, data = named_keys(keys, f"{phase} fit"), dataset.source(model.inputs)
    return trained(model, run.train(phase, task, own, model.params, data, split.train, split.val))


def trained(model: Model, fit: FitState) -> Trained:
    """The network with the weights that training chose."""
    return Trained(dataclasses.replace(model, params=fit.best), fit)


def generator_module(dataset: Dataset, recipe: Recipe) -> nn.Module:
    """A recipe's generator of what networks of the dataset see."""
    if recipe.generator == "scene":
        return SceneGenerator(frames=dataset.observed)
    if dataset.sensors != SCANS:
        found = ", ".join(dataset.sensors)
        raise InputError(f"--generator: expected scene with sensors other than lidar alone, found dense for {found}")
    (spec,) = dataset.spec(SCANS).values()
    return Generator(frames=spec.shape[0], rays=spec.shape[1])


def origins_of(
    run: Run,
    keys: Array,
    dataset: Dataset,
    teacher: Model,
    summaries: Callable[[], Metadata],
    recipe: Recipe,
    phase: str = "generator",
) -> Origin:
    """Where each seed's sequences come from by a recipe: its generators, or the streets along which they are simulated.

    Generators [members, generators, ...] whose loss has no term are not trained. Metadata are asked for where they are
    trained, or where streets are looked for.
    """
    if recipe.generator == "streets":
        return _families(run, keys, dataset, teacher, summaries, recipe, phase)
    init_keys, fit_keys, _ = _generator_keys(keys, recipe)
    generator = initial_generator(init_keys, generator_module(dataset, recipe))
    if not any(dataclasses.astuple(recipe.generator_loss)):
        return generator
    as_batch, options = _as_batch(dataset), (recipe.generator_loss, recipe.generator_fit)
    return train_generators(run, phase, fit_keys, generator, teacher, summaries(), as_batch, *options)


def _families(
    run: Run,
    keys: Array,
    dataset: Dataset,
    teacher: Model,
    summaries: Callable[[], Metadata],
    recipe: Recipe,
    phase: str,
) -> list[Family]:
    if not recipe.search.rounds:
        return [ANY] * len(keys)
    given = teacher, summaries(), dataset.spec(dataset.sensors), dataset.future, recipe.search
    with run.phase(phase):
        return matching_families(run, jax.random.fold_in(keys[0], 2), *given, first=UNUSED)


def sequences_of(run: Run, keys: Array, dataset: Dataset, origin: Origin, recipe: Recipe) -> Batch:
    """Sequences of each seed by a recipe, [members, N, ...], of its generators, or of its streets.

    For hindsight they have J frames more than are observed. The dataset gives L and J alone.
    """
    if not isinstance(origin, Model):
        streets = [functools.partial(unused_streets, family) for family in origin]
        if len(set(origin)) == 1:  # of all seeds at once
            return simulated_sequences(run, keys, dataset, streets[0], recipe)
        own = [
            simulated_sequences(run, keys[seed : seed + 1], dataset, street_of, recipe)
            for seed, street_of in enumerate(streets)
        ]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *own)
    generator = origin
    _, _, noise_keys = _generator_keys(keys, recipe)
    if recipe.hindsight:
        generator = dataclasses.replace(generator, module=generator.module.clone(ahead=dataset.future))
    count, order = recipe.sequences + recipe.held_out, named_keys(keys, "order")
    with run.phase("generation"):
        return generate_sequences(run, noise_keys, order, generator, count, _as_batch(dataset, kept=True))


def simulated_sequences(
    run: Run, keys: Array, dataset: Dataset, street_of: Callable[[int], Street], recipe: Recipe
) -> Batch:
    """Windows of simulated drives without their beams, [members, N, ...]: each seed takes its own of the same drives.

    They are as many and as long as sequences of a recipe. The dataset gives L and J alone.
    """
    spec, count = dataset.spec(dataset.sensors), recipe.sequences + recipe.held_out
    ahead, devices = dataset.future * recipe.hindsight, run.devices // jax.process_count()
    key = jax.random.fold_in(keys[0], 1)  # not the one by which a dataset is simulated

    def draw(key, windows):
        chosen = jax.random.permutation(key, len(windows))[:count]
        batch = gather(windows, Rows(chosen, jnp.ones(count, bool)))
        return unlabelled({name: sensor_input(name)(batch) for name in spec}, dataset)

    with run.phase("simulation"):
        windows = simulated_windows(key, street_of, count, spec, dataset.future, ahead, devices)
        return run.over_members(draw, (0, None))(named_keys(keys, "control"), windows)


def student_of_sequences(
    run: Run,
    keys: Array,
    dataset: Dataset,
    teacher: Model,
    student: Model,
    sequences: Batch,
    recipe: Recipe,
    phase: str = "dfkd",
    validation: Batch | None = None,
) -> Trained:
    """The student trained by a recipe on its teacher's answers on sequences alone; the dataset gives L alone.

    Where sequences go on for longer, the teacher answers in hindsight. `validation` is as in `distill_on_sequences`.
    """
    learner = dataclasses.replace(student, module=student.module.clone(dropout=recipe.dropout))
    ahead = next(iter(sequences.sensors.values())).shape[2] - dataset.observed
    options = (recipe.dfkd_fit, recipe.loss, recipe.held_out, ahead, validation)
    fit = distill_on_sequences(run, phase, named_keys(keys, "dfkd"), learner, teacher, sequences, *options)
    return trained(student, fit)


def by_number(generator: Model) -> dict[str, Model]:
    """Generators [members, G, ...] as they are saved, each with weights [members, ...]; numbered where G > 1."""
    count = len(jax.tree.leaves(generator.params)[0][0])

    def one(number):
        params = jax.tree.map(lambda leaf: leaf[:, number], generator.params)
        return dataclasses.replace(generator, params=params)

    return {"generator" if count == 1 else f"generator{number + 1}": one(number) for number in range(count)}


def _generator_keys(keys: Array, recipe: Recipe) -> Array:
    """Keys of generators for initial weights, training and noise, [3, members, generators]."""
    split = jax.vmap(lambda key: jax.random.split(key, (3, recipe.generators)))(named_keys(keys, "generator"))
    return jnp.moveaxis(split, 1, 0)


def _as_batch(dataset: Dataset, kept: bool = False) -> Callable[[Array | Scene], Batch]:
    """What makes batches of what generators make; those that are `kept` have no gradient."""
    spec = dataset.spec(dataset.sensors)

    def as_batch(made):
        seen = render(made, spec) if isinstance(made, Scene) else dict.fromkeys(spec, made)
        return unlabelled(seen, dataset) if kept else sensor_batch(seen, dataset.future)

    def one_by_one(made):  # for what they are rendered as takes more room than what is kept of it
        one = jax.tree.map(lambda leaf: leaf[:, None], made)
        return jax.tree.map(lambda leaf: leaf[:, 0], jax.lax.map(as_batch, one))

    return one_by_one if kept and KEPT.keys() & spec.keys() else as_batch


def unlabelled(seen: dict[str, Array], dataset: Dataset) -> Batch:
    """Sequences to keep, of arrays [N, frames, ...] as networks take them; those that take much room in less of it."""
    kept = {name: KEPT[name](each) if name in KEPT else each for name, each in seen.items()}
    return sensor_batch(kept, dataset.future)


def _repeat(tree: Any, times: int) -> Any:
    """The same for each member."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], times, axis=0), tree)
