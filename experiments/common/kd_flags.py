"""Flags that the studies of KD from real windows share."""

import dataclasses

from beamkd.base import InputError, expect_at_least
from experiments.common.flags import Flags


@dataclasses.dataclass(frozen=True)
class KdFlags(Flags):
    """Flags of a study whose students learn from a teacher on real windows."""

    neighbours: int = 8
    """Windows of a training batch that follow one another; a frame that they share is encoded once."""
    alpha: float = 0.6
    """Weight of the teacher's logits against the labels."""
    temperature: float = 2.0
    """T of the KL divergence."""

    def __post_init__(self):
        super().__post_init__()
        expect_at_least(self, neighbours=1)
        if not 0 <= self.alpha <= 1:
            raise InputError(f"--alpha: expected 0 to 1, found {self.alpha}")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"--temperature: expected a finite number of more than 0, found {self.temperature}")
