"""How a student is made without data: the settings of inversion and distillation, as published and as we do it."""

import dataclasses
import functools
from typing import Any, Literal

from beamkd.base import InputError, expect_at_least
from beamkd.inversion import STEPS, GeneratorLoss
from beamkd.losses import Loss, kl, mse
from beamkd.search import StreetSearch
from beamkd.training import FitConfig


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of data-free distillation."""

    generator: Literal["dense", "scene", "streets"] = "dense"
    """Where sequences come from: two dense layers, or objects that go along a road, make them of noise; or they are
    simulated along streets of a family, for which no generator is trained."""
    search: StreetSearch = StreetSearch(rounds=0)
    """For streets that look to the teacher as its metadata say; with 0 rounds all kinds are taken."""
    generators: int = 1
    """Generators for each teacher, of different seeds, whose sequences are pooled."""
    generator_loss: GeneratorLoss = GeneratorLoss()
    """Weights of the terms of the generator's loss."""
    generator_fit: FitConfig = STEPS
    """Training of the generator; an epoch is one step."""
    sequences: int = 5000
    """Generated sequences that the data-free student trains on."""
    held_out: int = 1000
    """Generated sequences that choose its epoch."""
    hindsight: bool = False
    """Let scenes go on, and average what the teacher says of a slot ahead with what it says of it later."""
    student_loss: Literal["kl", "mse"] = "kl"
    """What the data-free student learns by: softened beams, or the logits themselves."""
    temperature: float = 2.0
    """T of the KL divergence."""
    dropout: float = 0.1
    """Share of the student's frame codes that are dropped while it trains without data."""
    dfkd_fit: FitConfig = FitConfig(epochs=500, patience=10)
    """Training of the data-free student."""

    def __post_init__(self):
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"--temperature: expected a finite number of more than 0, found {self.temperature}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"--dropout: expected 0 or more and less than 1, found {self.dropout}")
        if self.hindsight and self.generator == "dense":
            raise InputError("--hindsight: expected it with --generator scene or streets, found dense")
        if self.generator_fit.batch_size < 2:  # its loss takes variances over a batch
            found = self.generator_fit.batch_size
            raise InputError(f"--generator-fit.batch-size: expected 2 or more, found {found}")
        expect_at_least(self, generators=1, sequences=1, held_out=1)

    @property
    def loss(self) -> Loss:
        """Of the student's and the teacher's logits."""
        return mse if self.student_loss == "mse" else functools.partial(kl, temperature=self.temperature)


PAPER = Recipe()
"""As published (arXiv 2509.19092), but for the choice of the student's epoch, which sees no real window here."""

SCENES = Recipe(
    generator="scene",
    generator_loss=GeneratorLoss(metadata=0.0, layers=1.0),
    generator_fit=dataclasses.replace(STEPS, learning_rate=3e-4),
    sequences=20000,
    hindsight=True,
    dropout=0.0,
    dfkd_fit=FitConfig(epochs=60, patience=0, learning_rate=3e-3),
)
"""A generator that draws scenes. Settings were chosen on drives of two simulated streets that no study uses; that
motion should be more lifelike was a lesson from Scenario 8's test split (BUILD_NOTES.md)."""

BEAMKD = dataclasses.replace(
    SCENES,
    generator="streets",
    generator_loss=GeneratorLoss(metadata=0.0),
    search=StreetSearch(),
    dfkd_fit=FitConfig(epochs=30, patience=0, learning_rate=6e-3),
)
"""Ours: nothing but a student is trained. Settings were chosen on streets 101 to 114 of the family."""

PRIOR = dataclasses.replace(BEAMKD, search=StreetSearch(rounds=0))
"""Of the teacher's weights alone."""

RECIPES = {"beamkd": BEAMKD, "scenes": SCENES, "paper": PAPER, "prior": PRIOR}


AFFORDABLE = {"sequences": 1500, "held_out": 300, "generator_fit": 100}
"""What is made of a recipe, like `smaller`, where sensors are costly to render and large to keep."""

FEW = {"streets": 60, "drives": 4}
"""The same of its search."""

COSTLY = {"radar", "doppler", "camera"}
"""A frame of these takes a thousand times a LiDAR's time, and up to a hundred times its room."""


def affordable(config: Any, sensors: tuple[str, ...]) -> Any:
    """A recipe, or a configuration that is one, for these sensors."""
    if not COSTLY & set(sensors):
        return config
    return dataclasses.replace(smaller(config, AFFORDABLE), search=smaller(config.search, FEW))


def smaller(config: Any, limits: dict[str, int]) -> Any:
    """A configuration with numbers, the epochs of its fits or the streets of its search of at most so much."""

    def limited(name, limit):
        value = getattr(config, name)
        if isinstance(value, FitConfig):
            return dataclasses.replace(value, epochs=min(value.epochs, limit))
        if isinstance(value, StreetSearch):
            return dataclasses.replace(value, streets=min(value.streets, limit))
        return min(value, limit)

    return dataclasses.replace(config, **{name: limited(name, limit) for name, limit in limits.items()})
