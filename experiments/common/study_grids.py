"""The methods of the study, by grid: what is compared with what, and how each is trained."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from beamkd import priors
from beamkd.base import Batch, named_keys
from beamkd.data import gather, initial_model, sensor_batch
from beamkd.inversion import GeneratorLoss
from beamkd.models import OccupancyCnn, PositionNetwork, RadarLeNet
from beamkd.sim import Street
from experiments.common.baselines import (
    at_velocity,
    neighbours_of_positions,
    table_of_positions,
    train_on_current_slot,
    with_positions,
)
from experiments.common.comparison import Comparison, Method
from experiments.common.dataset import Trained, cost
from experiments.common.distillation import Distillation
from experiments.common.methods import (
    SCANS,
    simulated_sequences,
    student_of,
)
from experiments.common.recipes import Recipe
from experiments.common.transfer import transfer_grid

TERMS = {"metadata": 1.0, "activation": 0.1, "entropy": 0.5}
"""Terms of the published generator's loss, with the weight that each has where it is on."""

SIZES = (8, 16, 24, 32, 48, 64)
"""States of the student's GRU."""

TEMPERATURES = (1.0, 2.0, 4.0)
ALPHAS = (0.3, 0.6, 0.9)
"""Weights of the teacher in KD on real data."""

POPULATIONS = (1, 2, 4, 8)
SEQUENCES = (1000, 2500, 5000, 10000)
"""Fewer than our recipe's."""

ONE_SHOT = {
    "lidar": ("occupancy", "LiDAR occupancy, CNN, one frame", OccupancyCnn),
    "radar": ("radar", "radar, LeNet, one frame", RadarLeNet),
}
"""Networks of one frame, by sensor."""

RECIPE_TITLES = {"paper": "published recipe", "scenes": "scenes of a generator", "beamkd": "our recipe"}


def _main_grid(source: Distillation) -> list[Comparison]:
    config = source.config
    rows = [
        teacher_method(source),
        Method("scratch", "student, real labels", lambda: _scratch(source)),
        _kd_method(source, "kd", "student, KD on real data"),
        *source.by_recipes(),
    ]
    scans = {
        "noise": ("uniform noise", functools.partial(_made_up, source, priors.uniform_noise, goes_on=False)),
        "sparse_noise": ("sparse noise", functools.partial(_made_up, source, priors.sparse_noise, goes_on=False)),
        "blobs": ("moving blobs", functools.partial(_made_up, source, priors.moving_blobs)),
    }
    untrained_scenes = dataclasses.replace(config.scenes, generator_loss=GeneratorLoss(0))
    scenes = {"scenes": ("scenes of an untrained generator", lambda: source.generate(untrained_scenes, "scenes"))}
    made = scans if source.scans else scenes
    on_streets = functools.partial(simulated_sequences, source.run, source.keys, source.dataset, recipe=config.beamkd)
    made["street"] = ("another simulated street", lambda: on_streets(lambda drives: Street()))
    made["streets"] = ("simulated streets of all kinds", lambda: on_streets(priors.streets_of_all_kinds))
    for name, (label, make) in made.items():
        train = functools.partial(lambda name, make: source.distil(config.beamkd, make(), name), name, make)
        rows.append(Method(name, f"control: {label}", train, data_free=True))
    return [Comparison("Main methods", rows)]


def _generator_grid(source: Distillation) -> list[Comparison]:
    paper, beamkd, scenes = source.config.paper, source.config.beamkd, source.config.scenes
    subsets = [[name for bit, name in enumerate(TERMS) if number >> bit & 1] for number in range(2 ** len(TERMS))]
    losses = [
        _inverted(
            source,
            "_".join(["loss", *(terms or ["none"])]),
            " + ".join(terms) or "untrained",
            paper,
            generator_loss=GeneratorLoss(**{name: TERMS[name] * (name in terms) for name in TERMS}),
        )
        for terms in sorted(subsets, key=len)
    ]
    as_published = {"dropout": paper.dropout, "dfkd_fit": paper.dfkd_fit}
    fewer = min(paper.sequences, beamkd.sequences)
    ours = [
        source.by_recipe("beamkd", RECIPE_TITLES["beamkd"]),
        _without_hindsight(source, "ours_no_hindsight", "ours, without hindsight"),
        *(_searched(source, rounds) for rounds in range(beamkd.search.rounds)),
        _student_method(
            source,
            "beamkd",
            "ours_published_student",
            "ours, student trained as published",
            sequences=fewer,
            **as_published,
        ),
    ]
    parts = [
        source.by_recipe("scenes", RECIPE_TITLES["scenes"]),
        _inverted(
            source,
            "scenes_dense",
            "dense layers for the scene, no hindsight",
            scenes,
            generator="dense",
            hindsight=False,
        ),
        _inverted(source, "scenes_metadata", "published metadata loss", scenes, generator_loss=paper.generator_loss),
        _inverted(source, "scenes_untrained", "generator untrained", scenes, generator_loss=GeneratorLoss(0)),
    ]
    return [
        Comparison("Terms of the published generator's loss", losses),
        Comparison("Parts of our recipe", ours),
        Comparison("Parts of the generator of scenes", parts),
        *(_by_generators(source, name, recipe) for name, recipe in {"paper": paper, "scenes": scenes}.items()),
        *(_by_sequences(source, name, recipe) for name, recipe in {"paper": paper, "beamkd": beamkd}.items()),
    ]


def _searched(source: Distillation, rounds: int) -> Method:
    """Our recipe after so many rounds of its search."""
    search = dataclasses.replace(source.config.beamkd.search, rounds=rounds)
    label = f"ours, {rounds} round{'s' * (rounds != 1)} of search"
    return _inverted(source, f"ours_rounds_{rounds}", label, source.config.beamkd, search=search)


def _student_grid(source: Distillation) -> list[Comparison]:
    config, tables = source.config, []
    for name in ("paper", "beamkd"):
        title, recipe = RECIPE_TITLES[name], getattr(config, name)
        losses = [
            (f"{name}_kl_{t:g}", f"KL, T = {t:g}", {"student_loss": "kl", "temperature": t}) for t in TEMPERATURES
        ]
        losses.append((f"{name}_mse", "MSE", {"student_loss": "mse"}))
        rows = [_student_method(source, name, method, label, **change) for method, label, change in losses]
        tables.append(Comparison(f"Student's loss, {title}", rows))
        method = f"{name}_real_selection"
        chosen = functools.partial(_selected_on_real_windows, source, recipe, name, method)
        rows = [source.by_recipe(name, "generated windows"), Method(method, "real validation windows", chosen)]
        tables.append(Comparison(f"What chooses the student's epoch, {title}", rows))
    settings = [(alpha, temperature) for alpha in ALPHAS for temperature in TEMPERATURES]
    kd = [_kd_method(source, f"kd_{a:g}_{t:g}", f"α = {a:g}, T = {t:g}", a, t) for a, t in settings]
    return [*tables, Comparison("KD on real data", kd), _by_size(source)]


def _teacher_grid(source: Distillation) -> list[Comparison]:
    other = dataclasses.replace(source, kind="gru", prefix="gru_")
    rows = [teacher_method(source), *source.by_recipes()]
    students = [dataclasses.replace(row, label=f"{row.label}, from the GRU") for row in other.by_recipes()]
    others = [Method("gru_teacher", "teacher, GRU", lambda: other.teacher), *students]
    return [Comparison("CNN-GRU teacher", rows), Comparison("GRU teacher", others, teacher="gru_teacher")]


def _baselines_grid(source: Distillation) -> list[Comparison]:
    gru = dataclasses.replace(source, kind="gru", prefix="gru_")
    others = [Method("gru_teacher", "teacher, GRU", lambda: gru.teacher)] if source.scans else []
    scratch = Method("scratch", "student, real labels", lambda: _scratch(source))
    rows = [teacher_method(source), *others, scratch, *_position_methods(source)]
    for sensor, (name, label, module) in ONE_SHOT.items():
        if sensor in source.dataset.windows.frames.sensors:
            rows.append(Method(name, label, functools.partial(_one_shot, source, module, sensor, name)))
    return [Comparison("Baselines", rows, metrics=("top1", "top2", "top3", "top5", "dba", "power_ratio"))]


GRIDS = {
    "main": _main_grid,
    "generator": _generator_grid,
    "student": _student_grid,
    "teacher": _teacher_grid,
    "baselines": _baselines_grid,
    "transfer": transfer_grid,
}


def teacher_method(source: Distillation) -> Method:
    """The main teacher, with which every student is compared."""
    return Method("teacher", "teacher, CNN-GRU" if source.scans else "teacher", lambda: source.teacher)


def _scratch(source: Distillation) -> Trained:
    return source.on_labels(source.student, source.config.scratch_fit, "scratch")


def _position_methods(source: Distillation) -> list[Method]:
    """Methods of the current position, and the same asked where the car will be at constant velocity."""
    source = dataclasses.replace(source, dataset=with_positions(source.dataset))
    common = source.run, source.dataset
    fits = {
        "table": ("look-up table", functools.partial(table_of_positions, *common)),
        "neighbours": ("nearest neighbours", functools.partial(neighbours_of_positions, *common)),
        "network": ("network", functools.partial(_one_shot, source, PositionNetwork, "gps", "position_network")),
    }
    rows = []
    for name, (label, fit) in fits.items():
        once = functools.cache(fit)
        moving = functools.partial(lambda once: at_velocity(once(), source.dataset), once)
        rows.append(Method(f"position_{name}", f"position: {label}", once))
        rows.append(Method(f"position_{name}_moving", f"position: {label}, constant velocity", moving))
    return rows


def _one_shot(source: Distillation, module: Callable[..., nn.Module], sensor: str, name: str) -> Trained:
    """A network of one frame of a sensor, trained on the current slot."""
    spec = source.dataset.spec([sensor])
    model = initial_model(named_keys(source.keys, name), module(beams=source.dataset.beams), spec, frames=1)
    return train_on_current_slot(source.run, source.keys, source.dataset, model, source.config.scratch_fit, name)


def _kd_method(source: Distillation, name: str, label: str, alpha: float = 0.6, temperature: float = 2.0) -> Method:
    return Method(name, label, lambda: source.kd(name, alpha, temperature))


def _inverted(source: Distillation, name: str, label: str, recipe: Recipe, **changes: Any) -> Method:
    """A student by a changed recipe."""
    changed = dataclasses.replace(recipe, **changes)
    return Method(name, label, lambda: source.distil(changed, source.generate(changed, name), name), data_free=True)


def _student_method(source: Distillation, recipe_name: str, name: str, label: str, **changes: Any) -> Method:
    """A student of a recipe's sequences, or of fewer of them, by a changed recipe."""
    recipe = getattr(source.config, recipe_name)
    changed = dataclasses.replace(recipe, **changes)

    def train():
        made = source.sequences(recipe_name)
        if changed.sequences < recipe.sequences:
            chosen = np.r_[: changed.sequences, recipe.sequences : recipe.sequences + recipe.held_out]
            made = jax.tree.map(lambda leaf: leaf[:, chosen], made)
        return source.distil(changed, made, name)

    return Method(name, label, train, data_free=True)


def _without_hindsight(source: Distillation, name: str, label: str) -> Method:
    """A student of our recipe's sequences that ends with what networks observe."""

    def train():
        seen = jax.vmap(lambda batch: batch.window(0, source.dataset.observed))(source.sequences("beamkd"))
        return source.distil(source.config.beamkd, seen, name)

    return Method(name, label, train, data_free=True)


def _selected_on_real_windows(source: Distillation, recipe: Recipe, sequences: str, name: str) -> Trained:
    windows = source.dataset.source(source.dataset.sensors)
    real = source.run.over_members(gather, (None, 0))(windows, source.dataset.split.val)
    return source.distil(recipe, source.sequences(sequences), name, validation=real)


def _by_generators(source: Distillation, name: str, recipe: Recipe) -> Comparison:
    def row(count):
        if count == recipe.generators:
            return source.by_recipe(name, RECIPE_TITLES[name])
        return _inverted(source, f"{name}_generators_{count}", f"{count} generators", recipe, generators=count)

    rows = [row(count) for count in POPULATIONS]
    return Comparison(f"Generators, {RECIPE_TITLES[name]}", rows, "generators", POPULATIONS)


def _by_sequences(source: Distillation, name: str, recipe: Recipe) -> Comparison:
    fewer = [count for count in SEQUENCES if count < recipe.sequences]
    rows = [
        _student_method(source, name, f"{name}_sequences_{count}", f"{count:,} sequences", sequences=count)
        for count in fewer
    ]
    rows.append(source.by_recipe(name, RECIPE_TITLES[name]))
    return Comparison(f"Sequences, {RECIPE_TITLES[name]}", rows, "generated sequences", (*fewer, recipe.sequences))


def _by_size(source: Distillation) -> Comparison:
    networks = {f"student_{size}": student_of(source.dataset, hidden=size) for size in SIZES}

    def train(name):
        student = source.untrained(networks[name], "student")
        return source.distil(source.config.beamkd, source.sequences("beamkd"), name, student)

    rows = [
        Method(name, f"GRU {network.hidden}", functools.partial(train, name), data_free=True)
        for name, network in networks.items()
    ]
    weights = tuple(cost(source.dataset, network)["parameters"] for network in networks.values())
    return Comparison("Size of the student, our recipe", rows, "student weights", weights)


def _frames(source: Distillation) -> int:
    """Frames of a sequence of our recipe."""
    return source.dataset.observed + source.dataset.future * source.config.beamkd.hindsight


def _made_up(source: Distillation, make: Callable[..., jax.Array], goes_on: bool = True) -> Batch:
    """Sequences of a prior; those in which frames have to do with one another go on for hindsight, as ours do."""
    recipe, dataset, (name,) = source.config.beamkd, source.dataset, SCANS
    count, frames = recipe.sequences + recipe.held_out, _frames(source) if goes_on else dataset.observed
    rays = dataset.spec(SCANS)[name].shape[-1]

    def draw(key):
        return sensor_batch(make(key, count, frames, rays), dataset.future, name)

    return source.run.over_members(draw, (0,))(named_keys(source.keys, "control"))
