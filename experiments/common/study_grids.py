"""The methods of the study, by grid: what is compared with what, and how each is trained."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd import priors
from beamkd.base import Batch, Metadata, Rows, Windows
from beamkd.data import gather, lidar_batch, lidar_input, make_windows
from beamkd.inversion import GeneratorLoss
from beamkd.losses import kl
from beamkd.models import GruStudent
from beamkd.sim import simulate
from experiments.common.dataset import Net, World, cost
from experiments.common.flags import own_devices
from experiments.common.methods import (
    TEACHERS,
    distill_on_sequences,
    distill_on_windows,
    generate_sequences,
    summarize_teacher,
    train_generators,
    train_on_labels,
)
from experiments.common.recipes import Recipe
from experiments.common.run import Run
from experiments.common.study_flags import Study

STREET_DRIVES = 600
"""Drives of the control 'street'; twice as many, and so on, if these have fewer windows than a student trains on."""

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

RECIPE_TITLES = {"paper": "published recipe", "beamkd": "our recipe"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A method of a table, not trained yet.

    Attributes:
      name: in the results.
      label: in tables and figures.
      train: train() -> it, for all seeds.
      data_free: whether it sees no real window, label or validation score.
    """

    name: str
    label: str
    train: Callable[[], Net]
    data_free: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Methods to show together; along an axis of numbers they make a curve, too.

    Attributes:
      title: of the table.
      rows: its methods.
      axis: what the methods differ in; None if not in a number.
      values: of each method on the axis.
      teacher: which method the others are compared with.
    """

    title: str
    rows: list[Row]
    axis: str | None = None
    values: tuple[float, ...] = ()
    teacher: str = "teacher"


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A teacher, and all that students of it start from.

    Attributes:
      run: the run.
      world: the data.
      config: the flags.
      kind: of the teacher, a key of `TEACHERS`.
      prefix: of names of methods and phases; empty for the main teacher.
    """

    run: Run
    world: World
    config: Study
    kind: str = "cnn_gru"
    prefix: str = ""

    @functools.cached_property
    def teacher(self) -> Net:
        """Trained on the real labels."""
        net = self.world.net(TEACHERS[self.kind](beams=self.world.beams), f"{self.prefix}teacher")
        return train_on_labels(self.run, self.world, net, self.config.teacher_fit, f"{self.prefix}teacher")

    @functools.cached_property
    def summaries(self) -> Metadata:
        """What its owner hands over with it."""
        return summarize_teacher(self.run, self.world, self.teacher)

    @functools.cached_property
    def student(self) -> Net:
        """With its initial weights, the same for all methods."""
        return self.world.net(GruStudent(beams=self.world.beams), "student")

    @functools.cached_property
    def sequences(self) -> dict[str, Batch]:
        """Of both recipes' generators."""
        recipes = {"paper": self.config.paper, "beamkd": self.config.beamkd}
        return {name: self.generate(recipe, name) for name, recipe in recipes.items()}

    def generate(self, recipe: Recipe, name: str) -> Batch:
        """Sequences by a recipe, [members, N, ...]."""
        phase = f"{self.prefix}generator_{name}"
        generators = train_generators(self.run, self.world, self.teacher, self.summaries, recipe, phase)
        return generate_sequences(self.run, self.world, generators, recipe)

    def distil(self, recipe: Recipe, sequences: Batch, name: str, student: Net | None = None, **options: Any) -> Net:
        """A student of the teacher's answers on sequences."""
        student = student or self.student
        return distill_on_sequences(self.run, self.world, self.teacher, student, sequences, recipe, name, **options)

    def both_recipes(self) -> list[Row]:
        """Students by the published recipe and by ours."""
        return [self.recipe_row("paper", "data-free, as published"), self.recipe_row("beamkd", "data-free, ours")]

    def recipe_row(self, name: str, label: str) -> Row:
        """The student by a recipe."""
        method = f"{self.prefix}dfkd_{name}"
        recipe = getattr(self.config, name)
        return Row(method, label, lambda: self.distil(recipe, self.sequences[name], method), data_free=True)


def _main_grid(lesson: Lesson) -> list[Table]:
    config, street = lesson.config, _street_windows(lesson)  # refused, if at all, before anything is trained
    rows = [
        teacher_row(lesson),
        Row("scratch", "student, real labels", lambda: _scratch(lesson)),
        _kd_row(lesson, "kd", "student, KD on real data"),
        *lesson.both_recipes(),
    ]
    made = {
        "noise": ("uniform noise", functools.partial(_made_up, lesson, priors.uniform_noise, goes_on=False)),
        "sparse_noise": ("sparse noise", functools.partial(_made_up, lesson, priors.sparse_noise, goes_on=False)),
        "blobs": ("moving blobs", functools.partial(_made_up, lesson, priors.moving_blobs)),
        "street": ("another simulated street", functools.partial(_street, lesson, street)),
    }
    for name, (label, make) in made.items():
        train = functools.partial(lambda name, make: lesson.distil(config.beamkd, make(), name), name, make)
        rows.append(Row(name, f"control: {label}", train, data_free=True))
    return [Table("Main methods", rows)]


def _generator_grid(lesson: Lesson) -> list[Table]:
    paper, beamkd = lesson.config.paper, lesson.config.beamkd
    subsets = [[name for bit, name in enumerate(TERMS) if number >> bit & 1] for number in range(2 ** len(TERMS))]
    losses = [
        _inverted(
            lesson,
            "_".join(["loss", *(terms or ["none"])]),
            " + ".join(terms) or "untrained",
            paper,
            generator_loss=GeneratorLoss(**{name: TERMS[name] * (name in terms) for name in TERMS}),
        )
        for terms in sorted(subsets, key=len)
    ]
    parts = [
        lesson.recipe_row("beamkd", RECIPE_TITLES["beamkd"]),
        _without_hindsight(lesson, "ours_no_hindsight", "ours, without hindsight"),
        _inverted(
            lesson,
            "ours_dense",
            "ours, dense layers for the scene, without hindsight",
            beamkd,
            generator="dense",
            hindsight=False,
        ),
        _inverted(
            lesson, "ours_metadata", "ours, published metadata loss", beamkd, generator_loss=paper.generator_loss
        ),
        _inverted(lesson, "ours_untrained", "ours, generator untrained", beamkd, generator_loss=GeneratorLoss(0)),
        _student_row(
            lesson,
            "beamkd",
            "ours_published_student",
            "ours, student trained as published",
            sequences=min(paper.sequences, beamkd.sequences),
            dropout=paper.dropout,
            dfkd_fit=paper.dfkd_fit,
        ),
    ]
    tables = [Table("Terms of the published generator's loss", losses), Table("Parts of our recipe", parts)]
    for name, recipe in {"paper": paper, "beamkd": beamkd}.items():
        tables += [_by_generators(lesson, name, recipe), _by_sequences(lesson, name, recipe)]
    return tables


def _student_grid(lesson: Lesson) -> list[Table]:
    config, tables = lesson.config, []
    for name, title in RECIPE_TITLES.items():
        recipe = getattr(config, name)
        losses = [
            (f"{name}_kl_{t:g}", f"KL, T = {t:g}", {"student_loss": "kl", "temperature": t}) for t in TEMPERATURES
        ]
        losses.append((f"{name}_mse", "MSE", {"student_loss": "mse"}))
        rows = [_student_row(lesson, name, method, label, **change) for method, label, change in losses]
        tables.append(Table(f"Student's loss, {title}", rows))
        method = f"{name}_real_selection"
        chosen = functools.partial(_selected_on_real_windows, lesson, recipe, name, method)
        rows = [lesson.recipe_row(name, "generated windows"), Row(method, "real validation windows", chosen)]
        tables.append(Table(f"What chooses the student's epoch, {title}", rows))
    settings = [(alpha, temperature) for alpha in ALPHAS for temperature in TEMPERATURES]
    kd = [_kd_row(lesson, f"kd_{a:g}_{t:g}", f"α = {a:g}, T = {t:g}", a, t) for a, t in settings]
    return [*tables, Table("KD on real data", kd), _by_size(lesson)]


def _teacher_grid(lesson: Lesson) -> list[Table]:
    other = dataclasses.replace(lesson, kind="gru", prefix="gru_")
    rows = [teacher_row(lesson), *lesson.both_recipes()]
    students = [dataclasses.replace(row, label=f"{row.label}, from the GRU") for row in other.both_recipes()]
    others = [Row("gru_teacher", "teacher, GRU", lambda: other.teacher), *students]
    return [Table("CNN-GRU teacher", rows), Table("GRU teacher", others, teacher="gru_teacher")]


GRIDS = {"main": _main_grid, "generator": _generator_grid, "student": _student_grid, "teacher": _teacher_grid}


def teacher_row(lesson: Lesson) -> Row:
    """The main teacher, with which every student is compared."""
    return Row("teacher", "teacher, CNN-GRU", lambda: lesson.teacher)


def _scratch(lesson: Lesson) -> Net:
    return train_on_labels(lesson.run, lesson.world, lesson.student, lesson.config.scratch_fit, "scratch")


def _kd_row(lesson: Lesson, name: str, label: str, alpha: float = 0.6, temperature: float = 2.0) -> Row:
    def train():
        loss, config = functools.partial(kl, temperature=temperature), lesson.config.kd_fit
        options = {"alpha": alpha, "loss": loss, "phase": name}
        return distill_on_windows(lesson.run, lesson.world, lesson.teacher, lesson.student, config, **options)

    return Row(name, label, train)


def _inverted(lesson: Lesson, name: str, label: str, recipe: Recipe, **changes: Any) -> Row:
    """A student by a changed recipe."""
    changed = dataclasses.replace(recipe, **changes)
    return Row(name, label, lambda: lesson.distil(changed, lesson.generate(changed, name), name), data_free=True)


def _student_row(lesson: Lesson, source: str, name: str, label: str, **changes: Any) -> Row:
    """A student of a recipe's sequences, or of fewer of them, by a changed recipe."""
    recipe = getattr(lesson.config, source)
    changed = dataclasses.replace(recipe, **changes)

    def train():
        made = lesson.sequences[source]
        if changed.sequences < recipe.sequences:
            chosen = np.r_[: changed.sequences, recipe.sequences : recipe.sequences + recipe.held_out]
            made = jax.tree.map(lambda leaf: leaf[:, chosen], made)
        return lesson.distil(changed, made, name)

    return Row(name, label, train, data_free=True)


def _without_hindsight(lesson: Lesson, name: str, label: str) -> Row:
    """A student of our recipe's sequences that ends with what networks observe."""
    _, observed, _ = lesson.world.scans

    def train():
        seen = jax.vmap(lambda batch: batch.window(0, observed))(lesson.sequences["beamkd"])
        return lesson.distil(lesson.config.beamkd, seen, name)

    return Row(name, label, train, data_free=True)


def _selected_on_real_windows(lesson: Lesson, recipe: Recipe, sequences: str, name: str) -> Net:
    world = lesson.world
    real = lesson.run.map(gather, (None, 0))(world.windows, world.split.val)
    return lesson.distil(recipe, lesson.sequences[sequences], name, validation=real)


def _by_generators(lesson: Lesson, name: str, recipe: Recipe) -> Table:
    def row(count):
        if count == recipe.generators:
            return lesson.recipe_row(name, RECIPE_TITLES[name])
        return _inverted(lesson, f"{name}_generators_{count}", f"{count} generators", recipe, generators=count)

    rows = [row(count) for count in POPULATIONS]
    return Table(f"Generators, {RECIPE_TITLES[name]}", rows, "generators", POPULATIONS)


def _by_sequences(lesson: Lesson, name: str, recipe: Recipe) -> Table:
    fewer = [count for count in SEQUENCES if count < recipe.sequences]
    rows = [
        _student_row(lesson, name, f"{name}_sequences_{count}", f"{count:,} sequences", sequences=count)
        for count in fewer
    ]
    rows.append(lesson.recipe_row(name, RECIPE_TITLES[name]))
    return Table(f"Sequences, {RECIPE_TITLES[name]}", rows, "generated sequences", (*fewer, recipe.sequences))


def _by_size(lesson: Lesson) -> Table:
    nets = {f"student_{size}": GruStudent(hidden=size, beams=lesson.world.beams) for size in SIZES}

    def train(name):
        student = lesson.world.net(nets[name], "student")
        return lesson.distil(lesson.config.beamkd, lesson.sequences["beamkd"], name, student)

    rows = [
        Row(name, f"GRU {net.hidden}", functools.partial(train, name), data_free=True) for name, net in nets.items()
    ]
    weights = tuple(cost(lesson.world, net)["parameters"] for net in nets.values())
    return Table("Size of the student, our recipe", rows, "student weights", weights)


def _frames(lesson: Lesson) -> int:
    """Frames of a sequence of our recipe."""
    _, observed, _ = lesson.world.scans
    return observed + lesson.world.future * lesson.config.beamkd.hindsight


def _made_up(lesson: Lesson, make: Callable[..., jax.Array], goes_on: bool = True) -> Batch:
    """Sequences of a control; those in which frames have to do with one another go on for hindsight, as ours do."""
    recipe, (_, observed, rays) = lesson.config.beamkd, lesson.world.scans
    count, frames = recipe.sequences + recipe.held_out, _frames(lesson) if goes_on else observed
    return lesson.run.map(lambda key: lidar_batch(make(key, count, frames, rays)), (0,))(lesson.world.draws("control"))


def _street_windows(lesson: Lesson) -> Windows:
    """Windows of drives that are in no split, as many as a student's sequences or more."""
    recipe, config = lesson.config.beamkd, lesson.config
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    drives, windows = STREET_DRIVES, ()
    while len(windows) < recipe.sequences + recipe.held_out:
        simulated = simulate(key, config.street, drives, own_devices(config))
        windows = make_windows(simulated, observed=_frames(lesson))
        drives *= 2
    return windows


def _street(lesson: Lesson, windows: Windows) -> Batch:
    """Scans of the street's windows, without their beams; each seed takes its own."""
    count = lesson.config.beamkd.sequences + lesson.config.beamkd.held_out

    def draw(key, windows):
        chosen = jax.random.permutation(key, len(windows))[:count]
        batch = gather(windows, Rows(chosen, jnp.ones(count, bool)))
        return lidar_batch(lidar_input(batch))

    return lesson.run.map(draw, (0, None))(lesson.world.draws("control"), windows)
