"""Claims about methods, judged by paired differences over seeds with bootstrap intervals."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import stats

METRICS = ("top1", "top5", "dba", "power_ratio")
"""What claims are judged by; shares of 1, more is better."""

CONFIDENCE = 0.95
RESAMPLES = 9999

FEWEST_SEEDS = 5
"""With fewer a claim stays open: bootstrap intervals of two or three seeds are much too narrow."""

SAME = 1e-12
"""Differences that are no farther apart are equal but for rounding."""

Side = str | tuple[str, str]
"""A method, or what the first of two has ahead of the second."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """That one side is better than another.

    Attributes:
      name: short, for instance a paper's letter.
      statement: the claim in a sentence.
      better: the side that is said to be better.
      worse: the other side.
      margin: by how much it may fall short and still be called equal; 0 where it is said to be better.
    """

    name: str
    statement: str
    better: Side
    worse: Side
    margin: float = 0.0


def judge_all(claims: Iterable[Claim], methods: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Judge claims by all metrics, as `judge` does; those whose methods are not there are left out."""
    judged = [judge(claim, methods, metric) for claim in claims for metric in METRICS]
    return [found for found in judged if found]


def judge(claim: Claim, methods: Mapping[str, Mapping[str, Any]], metric: str) -> dict[str, Any] | None:
    """Judge a claim by one metric.

    Args:
      claim: the claim.
      methods: by name, then by metric, a row a seed, [seeds, slots]; the seeds of all methods are the same.
      metric: one of `METRICS`.

    Returns:
      The claim, the mean difference over seeds and slots with its interval and verdict, and 'slots', the same by slot
      without a verdict. None if a method is not there.

    Raises:
      ValueError: methods have unequal numbers of seeds or slots.
    """
    sides = [_values(side, methods, metric) for side in (claim.better, claim.worse)]
    if any(values is None for values in sides):
        return None
    if sides[0].shape != sides[1].shape:
        shapes = " and ".join(str(side.shape) for side in sides)
        raise ValueError(f"{claim.statement} expected as many seeds and slots of both, found {shapes}")
    differences = sides[0] - sides[1]
    low, high = interval(differences.mean(-1))
    slot_low, slot_high = interval(differences)
    return {
        "claim": claim.name,
        "statement": claim.statement,
        "metric": metric,
        "better": _written(claim.better),
        "worse": _written(claim.worse),
        "margin": claim.margin,
        "seeds": len(differences),
        "difference": differences.mean(),
        "low": low,
        "high": high,
        "verdict": verdict(low, high, claim.margin) if len(differences) >= FEWEST_SEEDS else "open",
        "slots": {"difference": differences.mean(0), "low": slot_low, "high": slot_high},
    }


def interval(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of the mean over seeds: bias-corrected and accelerated (Efron, 1987), always the same draws.

    Args:
      differences: [seeds, ...], paired.

    Returns:
      Its lower and upper end, [...]; from −∞ to ∞ with a single seed.
    """
    differences = np.asarray(differences, float)
    if len(differences) < 2:
        return np.full(differences.shape[1:], -np.inf), np.full(differences.shape[1:], np.inf)
    mean, same = differences.mean(0), np.ptp(differences, axis=0) < SAME
    spread = differences + np.where(same, np.arange(len(differences)).reshape(-1, *[1] * mean.ndim), 0)
    options = {
        "confidence_level": CONFIDENCE,
        "n_resamples": RESAMPLES,
        "method": "BCa",
        "rng": np.random.default_rng(0),
    }
    found = stats.bootstrap((spread,), np.mean, axis=0, vectorized=True, **options).confidence_interval
    return np.where(same, mean, found.low), np.where(same, mean, found.high)


def verdict(low: float, high: float, margin: float = 0.0) -> str:
    """Whether an interval of a difference confirms that it is more than −margin, refutes it, or leaves it open."""
    if low > -margin:
        return "confirmed"
    return "refuted" if high < -margin else "open"


def _values(side: Side, methods: Mapping[str, Mapping[str, Any]], metric: str) -> np.ndarray | None:
    """[seeds, slots] of a side; None if a method is not there."""
    names = (side,) if isinstance(side, str) else side
    if any(name not in methods for name in names):
        return None
    first, *rest = (np.asarray(methods[name][metric], float) for name in names)
    return first - rest[0] if rest else first


def _written(side: Side) -> str:
    return side if isinstance(side, str) else " − ".join(side)
