"""Claims about methods, judged by paired differences with intervals over seeds and test drives."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

METRICS = ("top1", "top5", "dba", "power_ratio")
"""What claims are judged by; shares of 1, more is better."""

CONFIDENCE = 0.95
RESAMPLES = 4999

FEWEST = {"seeds": 5, "drives": 5, "roads": 3}
"""With fewer a claim stays open: their spread is not known well enough. A single road is one that is given."""

SAME = 1e-12
"""Differences that are no farther apart are equal but for rounding."""

Methods = Mapping[str, Mapping[str, Any]]
"""`methods[name]['by_drive'][metric]` [seeds, drives, slots] is the sum of a method's scores over the windows of each
test drive; 0 where a seed does not test the drive."""

Counts = Mapping[str, Any]
"""`counts[metric]` [seeds, drives, slots] is the number of windows in each of these sums, the same for all methods."""

Side = str | tuple[str, str]
"""A method, judged by its score; or two methods, judged by how near they are: minus their absolute difference."""


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


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far one side is ahead of another.

    Attributes:
      mean: over seeds and slots.
      low: lower end of its interval.
      high: upper end.
      slots: the same three of each slot, [3, slots].
      seeds: how many there are.
      drives: how many test drives there are, of all seeds together.
    """

    mean: float
    low: float
    high: float
    slots: np.ndarray
    seeds: int
    drives: int


def judge_all(claims: Iterable[Claim], methods: Methods, counts: Counts) -> list[dict[str, Any]]:
    """Judge claims by all metrics, as `judge` does; those whose methods are not there are left out."""
    known = [claim for claim in claims if {*_names(claim.better), *_names(claim.worse)} <= set(methods)]
    return [judge(claim, methods, counts, metric) for claim in known for metric in METRICS]


def judge(claim: Claim, methods: Methods, counts: Counts, metric: str) -> dict[str, Any]:
    """Judge a claim by one metric, one of `METRICS`.

    Returns:
      The claim, the difference of its sides with interval and verdict, and 'slots', the same by slot without a verdict.

    Raises:
      ValueError: methods have unequal numbers of seeds, drives or slots.
    """
    found = difference(claim.better, claim.worse, methods, counts, metric)
    enough = found.seeds >= FEWEST["seeds"] and found.drives >= FEWEST["drives"]
    return {
        "claim": claim.name,
        "statement": claim.statement,
        "metric": metric,
        "better": _written(claim.better),
        "worse": _written(claim.worse),
        "margin": claim.margin,
        "seeds": found.seeds,
        "drives": found.drives,
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "verdict": verdict(found.low, found.high, claim.margin) if enough else "open",
        "slots": dict(zip(("difference", "low", "high"), found.slots, strict=True)),
    }


def judge_over_roads(judged: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Judge claims by several roads, each of which counts as much.

    Roads are drawn first, then seeds and drives on each: so the spread of the roads' differences has that of all levels
    in it (Cameron, Gelbach and Miller, 2011, of nested levels), and Student's t gives the interval for other roads; it
    is no shorter than that for these.

    Args:
      judged: of each road what `judge_all` says; claims that not all roads have are left out.

    Returns:
      What `judge` gives, with the number of 'roads', and 'each' road's difference; and 'here', low and high for these
      roads alone, whose intervals are taken as independent.
    """
    keys = ("claim", "statement", "metric", "better", "worse", "margin")
    by_key = [{tuple(map(found.get, keys)): found for found in road} for road in judged]
    shared = [key for key in by_key[0] if all(key in road for road in by_key)]
    return [_over_roads(dict(zip(keys, key, strict=True)), [road[key] for road in by_key]) for key in shared]


def _over_roads(claim: dict[str, Any], roads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    each = np.array([road["difference"] for road in roads])
    below, above = ([abs(road[end] - road["difference"]) for road in roads] for end in ("low", "high"))
    mean, count = float(each.mean()), len(each)
    enough = count >= FEWEST["roads"] and all(road["seeds"] >= FEWEST["seeds"] for road in roads)
    wide = np.inf if count < 2 else -special.stdtrit(count - 1, (1 - CONFIDENCE) / 2) * each.std(ddof=1) / count**0.5
    here = [mean - float(np.linalg.norm(below)) / count, mean + float(np.linalg.norm(above)) / count]
    # Roads that are near one another by chance say no more of others than of themselves.
    low, high = min(mean - float(wide), here[0]), max(mean + float(wide), here[1])
    return claim | {
        "seeds": min(road["seeds"] for road in roads),
        "drives": sum(road["drives"] for road in roads),
        "roads": count,
        "each": each.tolist(),
        "difference": mean,
        "low": low,
        "high": high,
        "here": here,
        "verdict": verdict(low, high, claim["margin"]) if enough else "open",
    }


def difference(better: Side, worse: Side, methods: Methods, counts: Counts, metric: str) -> Difference:
    """How far the side `better` is ahead of `worse`, paired by seed and drive.

    Raises:
      ValueError: methods have unequal numbers of seeds, drives or slots.
    """
    windows = np.asarray(counts[metric], float)
    sums = {}
    for name in (*_names(better), *_names(worse)):
        sums[name] = np.asarray(methods[name]["by_drive"][metric], float)
        if sums[name].shape != windows.shape:
            raise ValueError(
                f"{name}: expected {metric} as [seeds, drives, slots] {windows.shape}, found {sums[name].shape}"
            )

    def ahead(weights: np.ndarray) -> np.ndarray:
        rates = {name: weighted_rates(weights, values, windows) for name, values in sums.items()}
        by_slot = _side(better, rates) - _side(worse, rates)
        return np.concatenate([by_slot, by_slot.mean(-1, keepdims=True)], -1)

    low, high = interval(ahead, *windows.shape[:2])
    middle = _mean_over_seeds(np.ones((1, len(windows))), ahead(np.ones((1, windows.shape[1]))))[0]
    slots = np.stack([middle, low, high])
    tested = int((windows.sum((0, 2)) > 0).sum())
    return Difference(*map(float, slots[:, -1]), slots[:, :-1], len(windows), tested)


def interval(values: Callable[[np.ndarray], np.ndarray], seeds: int, drives: int) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a mean over seeds that covers other seeds and other drives, too; always the same draws.

    A bootstrap of two crossed levels. Seeds alone are drawn again, drives alone, and both (Owen, "The pigeonhole
    bootstrap", 2007). The three spreads give the variance: that over seeds plus that over drives less what both count
    twice (Cameron, Gelbach and Miller, 2011), and no less than what they do. The deviations of both levels are scaled
    to it and, for few seeds or drives, by Student's t with Satterthwaite's degrees of freedom; their quantiles are the
    ends.

    Args:
      values: values(weights) -> [resamples, seeds, ...], of each seed if drives have these weights
        [resamples, drives]; NaN where a seed has none of the drives.
      seeds: how many.
      drives: how many, of all seeds together.

    Returns:
      Its lower and upper end, [...]; from −∞ to ∞ with a single seed or a single drive.
    """
    every_seed, every_drive = np.ones((1, seeds)), np.ones((1, drives))
    alone = values(every_drive)
    middle = _mean_over_seeds(every_seed, alone)[0]
    if min(seeds, drives) < 2:
        return np.full(middle.shape, -np.inf), np.full(middle.shape, np.inf)
    seed_weights, drive_weights = _draws(seeds, drives)
    drawn = values(drive_weights)
    by_seed = _mean_over_seeds(seed_weights, alone) - middle
    by_drive = np.nan_to_num(_mean_over_seeds(every_seed, drawn) - middle)
    by_both = np.nan_to_num(_mean_over_seeds(seed_weights, drawn) - middle) - by_seed - by_drive

    wider = np.sqrt([seeds / (seeds - 1), drives / (drives - 1)])  # resamples spread less than samples
    by_seed, by_drive, by_both = wider[0] * by_seed, wider[1] * by_drive, wider[0] * wider[1] * by_both
    spread = [np.square(deviations).mean(0) for deviations in (by_seed, by_drive, by_both)]
    variance = spread[0] + spread[1] - spread[2]
    same = spread[0] + spread[1] < SAME**2
    freedoms = seeds - 1, drives - 1, (seeds - 1) * (drives - 1)
    uncertainty = sum(np.square(part) / own for part, own in zip(spread, freedoms, strict=True))
    freedom = np.square(variance) / np.where(same, 1, uncertainty)
    below = variance < spread[2]  # as chance has it where neither seeds nor drives differ: that of both remains
    variance, freedom = np.where(below, spread[2], variance), np.where(below, freedoms[2], freedom)
    tail = (1 - CONFIDENCE) / 2
    longer = special.stdtrit(np.where(same, 1, freedom), tail) / special.ndtri(tail)
    scale = np.where(same, 0, longer * np.sqrt(variance / np.where(same, 1, spread[0] + spread[1])))
    low, high = np.quantile(scale * (by_seed + by_drive), [tail, 1 - tail], axis=0)
    return middle + low, middle + high


def weighted_rates(weights: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over the windows of a seed if drives have weights.

    Args:
      weights: [resamples, drives].
      sums: [seeds, drives, slots], over windows.
      counts: [seeds, drives, slots], how many windows.

    Returns:
      [resamples, seeds, slots]; NaN where there is no window.
    """
    total, windows = (np.einsum("rd,sdj->rsj", weights, values, optimize=True) for values in (sums, counts))
    return np.divide(total, windows, out=np.full_like(total, np.nan), where=windows > 0)


def verdict(low: float, high: float, margin: float = 0.0) -> str:
    """Whether an interval of a difference confirms that it is more than −margin, refutes it, or leaves it open."""
    if low > -margin:
        return "confirmed"
    return "refuted" if high < -margin else "open"


@functools.lru_cache(maxsize=4)
def _draws(seeds: int, drives: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and each drive is drawn, [resamples, seeds] and [resamples, drives]."""
    rng = np.random.default_rng(0)
    return tuple(
        rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float) for count in (seeds, drives)
    )


def _mean_over_seeds(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of values [resamples, seeds, ...] with weights [resamples, seeds], over the seeds that have one."""
    scored = np.isfinite(values)
    weights = weights.reshape(*weights.shape, *[1] * (values.ndim - 2)) * scored
    total = weights.sum(1)
    return np.divide(
        (weights * np.where(scored, values, 0)).sum(1), total, out=np.full_like(total, np.nan), where=total > 0
    )


def _names(side: Side) -> tuple[str, ...]:
    return (side,) if isinstance(side, str) else side


def _side(side: Side, rates: Mapping[str, np.ndarray]) -> np.ndarray:
    first, *other = (rates[name] for name in _names(side))
    return -np.abs(first - other[0]) if other else first


def _written(side: Side) -> str:
    return side if isinstance(side, str) else " to ".join(side)
