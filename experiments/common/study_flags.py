"""Flags of the study."""

import dataclasses
from typing import Literal

from beamkd.base import InputError, expect_at_least
from beamkd.sim import Family
from beamkd.training import FitConfig
from experiments.common.flags import Flags, most_resident
from experiments.common.recipes import BEAMKD, PAPER, SCENES, Recipe


@dataclasses.dataclass(frozen=True)
class Study(Flags):
    """Flags of the study."""

    grid: Literal["main", "generator", "student", "teacher", "baselines", "transfer", "all"] = "main"
    """Which methods to compare."""
    seeds: int = 20
    """How many seeds: each draws weights, batches and noise, and with `--split random` which drives are for what."""
    streets: int = 0
    """Streets of the family to study, each by itself, in place of `--street`; claims are then over streets, too."""
    first_street: int = 1
    """The number of the first one: those of other numbers are others."""
    family: Family = Family()
    """What streets are drawn from; what it has no range of is that of `--street`."""
    quick: bool = False
    """A small run, for trying: half a minute, somewhat over one the first time, when it is mostly compiled."""
    paper: Recipe = PAPER
    """The published recipe."""
    beamkd: Recipe = BEAMKD
    """Ours. The controls train as many sequences in the same way."""
    scenes: Recipe = SCENES
    """Of a generator that draws scenes."""
    teacher_fit: FitConfig = FitConfig(epochs=100, patience=5, clip=0)
    """Training of the teachers."""
    scratch_fit: FitConfig = FitConfig(epochs=100, patience=10, clip=0)
    """Training of the student on the real labels."""
    kd_fit: FitConfig = FitConfig(epochs=100, patience=10)
    """Training of the student by distillation on the real windows."""

    def __post_init__(self):
        super().__post_init__()
        expect_at_least(self, streets=0, first_street=0)
        if self.streets and self.source != "sim":
            raise InputError(f"--streets: expected none with --source {self.source}, found {self.streets}")
        most = most_resident(self)
        if self.source == "sim" and self.drives > most:
            raise InputError(f"--drives: expected at most --resident {most} in a study, found {self.drives}")
