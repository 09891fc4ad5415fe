"""What a network's predictions save beside a full sweep, from its logits on the test split of each seed."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, Batch
from beamkd.claims import interval, weighted_rates
from beamkd.training import (
    adaptive_sweep,
    beam_switches,
    calibration_error,
    coverage_for,
    fixed_sweeps,
    horizon,
    outage,
    spectral_efficiency,
    sweep_ratios,
)

SWEEPS = (1, 2, 3, 5, 8, 16, 64)
"""Numbers of beams of the fixed sweeps that are reported; no more than there are."""

EQUAL = (2, 3, 5)
"""Fixed sweeps whose received power the sweeps that follow the probabilities are to reach."""

SNR_DB = 20.0
"""dB, of the best beam, for spectral efficiency."""


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a network says of windows.

    Attributes:
      logits: [W, J + 1, M].
      batch: the W windows' labels and powers.
      drive: [W], the drive of each.
      slot: [W], time of the current slot within the drive.
    """

    logits: Array
    batch: Batch
    drive: np.ndarray
    slot: np.ndarray

    def probabilities(self, temperature: float = 1.0) -> Array:
        """Of the beams, [W, J + 1, M]."""
        return jax.nn.softmax(self.logits / temperature)


def savings(
    test: Sequence[Answers], held_out: Sequence[Answers], temperatures: Sequence[float], numbers: np.ndarray
) -> dict[str, Any]:
    """What sweeps of few beams receive and cost; one entry of each sequence a seed.

    Args:
      test: on the test split.
      held_out: on the validation split, on which it is chosen how much probability a sweep is to hold.
      temperatures: by which logits are divided where calibration is compared; sweeps take them as they are.
      numbers: [D] ascending, drives of all test splits.

    Returns:
      Means over seeds and slots, and intervals over seeds and test drives where a sweep follows the probabilities.
    """
    beams = [k for k in SWEEPS if k <= test[0].logits.shape[-1]]
    errors = [
        [_mean(calibration_error(seed.probabilities(scale), seed.batch.labels)) for scale in (1.0, temperature)]
        for seed, temperature in zip(test, temperatures, strict=True)
    ]
    switches = {
        "predicted": [beam_switches(*_in_time(seed, seed.logits[:, 0].argmax(-1))) for seed in test],
        "best": [beam_switches(*_in_time(seed, seed.batch.labels[:, 0])) for seed in test],
    }
    return {
        "temperature": [*map(float, temperatures)],
        "calibration_error": dict(zip(("before", "after"), np.mean(errors, 0).tolist(), strict=True)),
        "fixed": {"beams": beams} | _fixed(test, beams),
        "adaptive": {str(k): _adaptive(test, held_out, numbers, k) for k in EQUAL},
        "switches_per_second": {name: float(np.mean(seeds)) for name, seeds in switches.items()},
        "horizon_slots": float(np.mean([horizon(seed.logits, seed.batch.power) for seed in test])),
    }


def _fixed(test: Sequence[Answers], beams: Sequence[int]) -> dict[str, list[float]]:
    """By metric, of sweeps of so many beams."""
    metrics = {
        "power_ratio": lambda seed, k: fixed_sweeps(seed.logits, seed.batch.power)[..., k - 1],
        "outage": lambda seed, k: outage(seed.logits, seed.batch.power, k),
        "spectral_efficiency": lambda seed, k: spectral_efficiency(seed.logits, seed.batch.power, k, SNR_DB),
    }
    return {
        name: [float(np.mean([_mean(metric(seed, k)) for seed in test])) for k in beams]
        for name, metric in metrics.items()
    }


def _adaptive(test: Sequence[Answers], held_out: Sequence[Answers], numbers: np.ndarray, k: int) -> dict[str, Any]:
    """Sweeps that follow the probabilities and are to receive what k beams do: how long they are, what they receive.

    'beams' and 'power' (less that of k beams) are [mean, lower, upper end].
    """
    sums, counts = [], []
    for seed, held in zip(test, held_out, strict=True):
        known = held.probabilities()
        target = fixed_sweeps(known, held.batch.power)[..., k - 1]
        coverage = coverage_for(known, held.batch.power, target)
        found = _each(seed.probabilities(), seed.batch.power, coverage, k)
        received = np.asarray(seed.batch.power.max(-1) > 0)
        place = np.searchsorted(numbers, seed.drive)
        sums.append({name: _by_drive(values, received, place, len(numbers)) for name, values in found.items()})
        counts.append(_by_drive(np.ones(received.shape), received, place, len(numbers)))
    windows = np.stack(counts)
    return {name: _with_interval(np.stack([each[name] for each in sums]), windows) for name in sums[0]}


def _each(probabilities: Array, power: Array, coverage: Array, k: int) -> dict[str, np.ndarray]:
    """Of each window and slot, [W, J + 1]: beams that are swept, and power beyond that of k beams."""
    alone = jax.vmap(lambda said, got: adaptive_sweep(said[None], got[None], coverage))
    beams, reached = alone(probabilities, power)
    fixed = sweep_ratios(probabilities, power)[..., k - 1]
    return {"beams": np.asarray(beams), "power": np.asarray(reached - fixed)}


def _by_drive(values: np.ndarray, received: np.ndarray, place: np.ndarray, drives: int) -> np.ndarray:
    """Sums over the windows of each drive, [D, J + 1]."""
    kept = np.where(received, values, 0)
    return np.stack([np.bincount(place, slot, drives) for slot in kept.T], -1)


def _with_interval(sums: np.ndarray, windows: np.ndarray) -> list[float]:
    """Mean over slots with its interval, of sums and counts [seeds, drives, J + 1]."""

    def mean(weights):
        return weighted_rates(weights, sums, windows).mean(-1)

    low, high = interval(mean, *windows.shape[:2])
    return [float(np.nanmean(mean(np.ones((1, windows.shape[1]))))), float(low), float(high)]


def _in_time(seed: Answers, beams: Array) -> tuple[Array, Array, Array]:
    """Beams, drives and slots in the order of `Drives`."""
    order = np.lexsort((seed.slot, seed.drive))
    return tuple(jnp.asarray(values)[order].astype(int) for values in (beams, seed.drive, seed.slot))


def _mean(values: Array) -> float:
    return float(jnp.mean(values))
