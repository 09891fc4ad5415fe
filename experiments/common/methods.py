"""The networks of a study, each trained for all seeds: teachers, students with data and students without."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import Array, Batch, InputError, Metadata, Model, Rows, Windows
from beamkd.data import lidar_batch, lidar_input, on_host, select
from beamkd.distill import distillation_task, held_out, hindsight_logits, teacher_logits
from beamkd.inversion import generate, inversion_task, layer_moments, merge_moments
from beamkd.losses import Loss, kl
from beamkd.models import CnnGruTeacher, Generator, GruTeacher, SceneGenerator, load_network, load_published, network
from beamkd.training import FitConfig, Stream, all_rows, supervised_task, to_host
from experiments.common.dataset import Net, World, init_weights, over_batches
from experiments.common.folder import NETWORKS
from experiments.common.recipes import Recipe
from experiments.common.run import Run

TEACHERS = {"cnn_gru": CnnGruTeacher, "gru": GruTeacher}
GENERATORS = {"dense": Generator, "scene": SceneGenerator}


@dataclasses.dataclass(frozen=True)
class Generators:
    """Generators of all seeds.

    Attributes:
      module: the Flax module.
      params: weights, [members, generators, ...].
      noise_keys: [members, generators], for what they make.
    """

    module: nn.Module
    params: Any
    noise_keys: Array


def load_teacher(world: World, path: Path) -> Net:
    """A teacher from a file, the same for every seed.

    Args:
      world: the data that it is for.
      path: an .npz of a published network, a .safetensors of a run, or a run's folder, whose teacher it then is.

    Raises:
      InputError: there is none, or it is for other scans or beams.
    """
    if path.suffix == ".npz":
        module, params = load_published(path)
        rays = params["params"]["Linear_0"]["kernel"].shape[0]
    else:
        path = path / NETWORKS / "teacher.safetensors" if path.is_dir() else path
        model = load_network(path)
        module, params, rays = model.module, model.params, model.inputs[-1]
        if not isinstance(module, tuple(TEACHERS.values())):
            raise InputError(f"{path}: expected a network of scans, found a {type(module).__name__}")
    if (rays, module.beams) != (world.scans[-1], world.beams):
        expected = f"{world.scans[-1]} rays and {world.beams} beams"
        raise InputError(f"{path}: expected a network for {expected}, found {rays} and {module.beams}")
    return Net.of(module, _repeat(jax.tree.map(lambda leaf: leaf[None], params), len(world.keys)))


def train_on_labels(run: Run, world: World, net: Net, config: FitConfig, phase: str) -> Net:
    """A network trained on the real labels: the teacher, or the student without any."""
    task, split = supervised_task(net.predict, world.take, config), world.split
    fit = run.train(phase, task, world.draws(f"{phase} fit"), net.params, world.data, None, split.train, split.val)
    return net.trained(fit)


def summarize_teacher(run: Run, world: World, teacher: Net) -> Metadata:
    """What the owner of the training windows hands over with the teacher, [members, ...]."""
    moments = over_batches(run, world, functools.partial(layer_moments, teacher.forward))
    return jax.vmap(merge_moments)(to_host(moments(teacher.params, world.split.train)))


def distill_on_windows(
    run: Run, world: World, teacher: Net, student: Net, config: FitConfig, alpha: float, loss: Loss = kl, phase="kd"
) -> Net:
    """The student trained on the teacher's answers and the labels of the real windows."""
    task, split = distillation_task(student.forward, world.take, config, loss, alpha), world.split
    data, keys = _with_answers(run, world, teacher), world.draws("kd")
    return student.trained(run.train(phase, task, keys, student.params, data, (None, 0), split.train, split.val))


def generator_models(generators: Generators) -> dict[str, Model]:
    """Generators as they are saved, with weights [members, ...]: by name, numbered where a seed has several."""
    module, count = generators.module, generators.noise_keys.shape[1]
    return {
        "generator" if count == 1 else f"generator{number + 1}": Model(
            module, jax.tree.map(lambda leaf, number=number: leaf[:, number], generators.params), (module.noise,)
        )
        for number in range(count)
    }


def train_generators(
    run: Run, world: World, teacher: Net, summaries: Metadata, recipe: Recipe, phase: str = "generator"
) -> Generators:
    """Each seed's generators by a recipe; those whose loss has no term are not trained."""
    _, frames, rays = world.scans
    module = GENERATORS[recipe.generator](frames=frames, rays=rays)
    keys = jax.vmap(lambda key: jax.random.split(key, (3, recipe.generators)))(world.draws("generator"))
    init_keys, fit_keys, noise_keys = jnp.moveaxis(keys, 1, 0)
    params = init_weights(module, init_keys.reshape(-1), (1, module.noise))
    if any(dataclasses.astuple(recipe.generator_loss)):
        task = inversion_task(teacher.forward, module, lidar_batch, recipe.generator_loss, recipe.generator_fit)
        data, rows = _repeat((teacher.params, summaries), recipe.generators), all_rows(recipe.generator_fit.batch_size)
        params = run.train(phase, task, fit_keys.reshape(-1), params, data, 0, rows).params
    params = jax.tree.map(lambda leaf: leaf.reshape(*keys.shape[::2], *leaf.shape[1:]), params)
    return Generators(module, params, noise_keys)


def generate_sequences(run: Run, world: World, generators: Generators, recipe: Recipe) -> Batch:
    """Sequences of each seed's generators, in random order, [members, N, ...]; here the world gives keys and J.

    For hindsight, sequences have J frames more than are observed.
    """
    count, module = recipe.sequences + recipe.held_out, generators.module
    painter = module.clone(ahead=world.future) if recipe.hindsight else module

    def make(keys, params, order):
        share = -(-count // recipe.generators)
        scans = jax.lax.map(lambda own: generate(own[0], painter, own[1], share), (keys, params))
        return lidar_batch(jax.random.permutation(order, jnp.concatenate(scans))[:count])

    with run.phase("generation"):
        return run.map(make, (0, 0, 0))(generators.noise_keys, generators.params, world.draws("order"))


def distill_on_sequences(
    run: Run,
    world: World,
    teacher: Net,
    student: Net,
    sequences: Batch,
    recipe: Recipe,
    phase: str = "dfkd",
    validation: Batch | None = None,
) -> Net:
    """The student trained on its teacher's answers on `sequences` alone; here the world gives keys and nothing else.

    Where sequences are longer than what networks observe, the teacher answers in hindsight. The sequences that the
    recipe holds out choose the epoch. With `validation`, [members, N, ...], these windows do: the published way, and
    not data-free where they are real.
    """
    _, observed, _ = world.scans

    def teach(params, batch):
        ahead = batch.sensors["lidar"].shape[1] - observed
        targets = hindsight_logits(teacher.forward, params, batch, len(batch.mask), select, observed, ahead)
        return batch.window(0, observed), targets

    teach_all = run.map(teach, (0, 0))
    train, val = held_out(recipe.sequences + recipe.held_out, recipe.held_out)
    examples = teach_all(teacher.params, sequences)
    if validation is not None:
        train, val, examples = _append(train, examples, teach_all(teacher.params, validation))
    learner = network(student.module.clone(dropout=recipe.dropout), lidar_input)
    task = distillation_task(learner, select, recipe.dfkd_fit, recipe.loss)
    return student.trained(run.train(phase, task, world.draws("dfkd"), student.params, examples, 0, train, val))


Examples = tuple[Batch, Array]
"""Windows and a teacher's answers on them, [members, N, ...]."""


def _append(train: Rows, examples: Examples, validation: Examples) -> tuple[Rows, Rows, Examples]:
    """Rows to train on and to validate by, of each member, in examples with those for validation behind them."""
    mask = validation[0].mask
    members, first = examples[0].mask.shape
    powerless = validation[0].replace(power=validation[0].power[..., :0])  # generated windows have no powers
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), examples, (powerless, validation[1]))
    train = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (members, *leaf.shape)), train)
    val = Rows(jnp.broadcast_to(jnp.arange(first, first + mask.shape[1]), mask.shape), mask)
    return train, val, joined


def _with_answers(run: Run, world: World, teacher: Net) -> tuple[Windows, Array] | Stream:
    """The windows and the teacher's answers on them; of a stream, which are too many to keep, as they pass."""

    def teach(params, data, count):
        return teacher_logits(teacher.forward, params, data, count, world.take)

    def prepare(params, batch):
        return batch, teach(params, batch, len(batch.mask))

    if on_host(world.windows):
        return dataclasses.replace(world.data, prepare=prepare, context=teacher.params)
    teach_all = run.map(functools.partial(teach, count=len(world.windows)), (0, None))
    return world.windows, teach_all(teacher.params, world.windows)


def _repeat(tree: Any, times: int) -> Any:
    """Each member so many times in a row."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, times, axis=0), tree)
