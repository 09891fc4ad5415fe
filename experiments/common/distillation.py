"""A teacher on a dataset, and students of it: what all methods of the study start from."""

import dataclasses
import functools

from flax import linen as nn

from beamkd.base import Array, Batch, Metadata, Model, cached_method, named_keys
from beamkd.data import Dataset
from beamkd.distill import distill_on_windows
from beamkd.inversion import summarize_on_dataset
from beamkd.losses import kl
from beamkd.training import FitConfig
from experiments.common.comparison import Method
from experiments.common.dataset import Trained
from experiments.common.methods import (
    SCANS,
    origins_of,
    sequences_of,
    student_of,
    student_of_sequences,
    teacher_of,
    train_on_labels,
    trained,
    untrained,
)
from experiments.common.recipes import Recipe
from experiments.common.run import Run
from experiments.common.study_flags import Study


@dataclasses.dataclass(frozen=True)
class Distillation:
    """A teacher, and all that students of it start from.

    Attributes:
      run: the run.
      dataset: the data.
      keys: [members].
      config: the flags.
      kind: of the teacher, a key of `TEACHERS`.
      prefix: of names of methods and phases; empty for the main teacher.
    """

    run: Run
    dataset: Dataset
    keys: Array
    config: Study
    kind: str = "cnn_gru"
    prefix: str = ""

    @functools.cached_property
    def teacher(self) -> Trained:
        """Trained on the real labels."""
        return self.on_labels(
            self.untrained(teacher_of(self.dataset, self.kind), f"{self.prefix}teacher"),
            self.config.teacher_fit,
            f"{self.prefix}teacher",
        )

    @functools.cached_property
    def summaries(self) -> Metadata:
        """What its owner hands over with it."""
        return summarize_on_dataset(self.run, self.teacher.model, self.dataset)

    @functools.cached_property
    def student(self) -> Model:
        """With its initial weights, the same for all methods."""
        return self.untrained(student_of(self.dataset), "student")

    @cached_method
    def sequences(self, name: str) -> Batch:
        """By a recipe, [members, N, ...]."""
        return self.generate(getattr(self.config, name), name)

    def untrained(self, module: nn.Module, name: str) -> Model:
        """A network with its initial weights."""
        return untrained(self.keys, self.dataset, module, name)

    def on_labels(self, model: Model, config: FitConfig, phase: str) -> Trained:
        """A network trained on the real labels."""
        return train_on_labels(self.run, self.keys, self.dataset, model, config, phase)

    def generate(self, recipe: Recipe, name: str) -> Batch:
        """Sequences by a recipe, [members, N, ...]."""
        common, phase = (self.run, self.keys, self.dataset), f"{self.prefix}generator_{name}"
        origin = origins_of(*common, self.teacher.model, lambda: self.summaries, recipe, phase)
        return sequences_of(*common, origin, recipe)

    def distil(
        self, recipe: Recipe, sequences: Batch, name: str, student: Model | None = None, validation: Batch | None = None
    ) -> Trained:
        """A student of the teacher's answers on sequences."""
        pair = self.teacher.model, student or self.student
        return student_of_sequences(self.run, self.keys, self.dataset, *pair, sequences, recipe, name, validation)

    @property
    def recipes(self) -> dict[str, str]:
        """Names of the recipes with their titles: ours, and one with a generator, for LiDAR the published one."""
        known = {"paper": "as published"} if self.scans else {"scenes": "scenes of a generator"}
        return known | {"beamkd": "ours"}

    @property
    def scans(self) -> bool:
        """Whether LiDAR alone is seen."""
        return self.dataset.sensors == SCANS

    def kd(self, name: str, alpha: float = 0.6, temperature: float = 2.0) -> Trained:
        """The student by distillation on the real windows."""
        options = (self.config.kd_fit, functools.partial(kl, temperature=temperature), alpha)
        pair, keys = (self.student, self.teacher.model), named_keys(self.keys, "kd")
        return trained(self.student, distill_on_windows(self.run, name, keys, *pair, self.dataset, *options))

    def by_recipes(self) -> list[Method]:
        """A student by each recipe."""
        return [self.by_recipe(name, f"data-free, {title}") for name, title in self.recipes.items()]

    def by_recipe(self, name: str, label: str) -> Method:
        """The student by a recipe."""
        method = f"{self.prefix}dfkd_{name}"
        recipe = getattr(self.config, name)
        return Method(method, label, lambda: self.distil(recipe, self.sequences(name), method), data_free=True)
