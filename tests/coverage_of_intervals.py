"""How often the intervals of claims hold the truth, by simulation: `python -m tests.coverage_of_intervals`.

A difference between two methods is made of normal effects: of the seed, of the drive, and of both together. Drives have
30 to 54 windows. 'In order', all seeds test the same drives; 'random', each tests a quarter of four times as many.
"""

import sys

import numpy as np

from beamkd.claims import interval, judge_over_roads, weighted_rates

MIXES = {
    "drives": (0, 1, 0),
    "seeds": (1, 0, 0),
    "both": (0, 0, 1),
    "even": (0.3, 0.6, 1),
    "measured": (0.4, 1.1, 1),
    "drives and both": (0, 1, 1),
}
"""Standard deviations of the effects of seed, drive, and both; 'measured': in proportion as on Scenario 8's folder."""

SIZES = [(seeds, drives) for drives in (13, 21, 100) for seeds in (5, 20)]


def coverage(seeds, drives, mix, datasets, split="inorder", skewed=False):
    """Share of `datasets` simulated differences of mean 0 whose interval holds 0."""
    rng = np.random.default_rng(seeds * drives)
    held = 0
    for _ in range(datasets):
        windows, effects = _differences(rng, seeds, drives, mix, split, skewed)
        low, high = interval(lambda w, n=windows, e=effects: weighted_rates(w, n * e, n), *windows.shape[:2])
        held += low[0] <= 0 <= high[0]
    return held / datasets


ROADS = [(roads, spread) for roads in (3, 12) for spread in (0.0, 0.5)]
"""Numbers of roads, and the standard deviation of their effects, those of a drive's being as 'measured'."""


def coverage_over_roads(roads, spread, datasets, seeds=10, drives=13):
    """Shares of `datasets` simulated differences over roads that hold the mean of all roads, and that of these."""
    rng, held = np.random.default_rng(roads), np.zeros(2)
    for _ in range(datasets):
        effects, judged = spread * rng.normal(size=roads), []
        for effect in effects:
            windows, found = _differences(rng, seeds, drives, MIXES["measured"], "inorder", False)
            sums = windows * (found + effect)
            low, high = interval(lambda w, n=windows, s=sums: weighted_rates(w, s, n), seeds, drives)
            mean = weighted_rates(np.ones((1, drives)), sums, windows).mean()
            judged.append(
                [{"difference": mean, "low": low[0], "high": high[0], "seeds": seeds, "drives": drives} | HEAD]
            )
        (found,) = judge_over_roads(judged)
        low, high = found["here"]
        held += found["low"] <= 0 <= found["high"], low <= effects.mean() <= high
    return held / datasets


HEAD = {"claim": "", "statement": "", "metric": "", "better": "", "worse": "", "margin": 0.0}


def _differences(rng, seeds, drives, mix, split, skewed):
    """Windows and mean differences, [seeds, drives of all seeds, 1]."""
    pool = drives if split == "inorder" else 4 * drives
    windows = np.broadcast_to(rng.integers(30, 55, pool), (seeds, pool)).astype(float)
    if split == "random":
        windows = windows * (rng.permuted(np.tile(np.arange(pool), (seeds, 1)), axis=1) < drives)
    of_drives = rng.exponential(size=(1, pool)) - 1 if skewed else rng.normal(size=(1, pool))
    levels = rng.normal(size=(seeds, 1)), of_drives, rng.normal(size=(seeds, pool))
    return windows[..., None], sum(spread * level for spread, level in zip(mix, levels, strict=True))[..., None]


def main(datasets=1000):
    """Print a table, percent, for each split and for drives whose effects are skewed."""
    print("| effects | " + " | ".join(f"{drives} drives, {seeds} seeds" for seeds, drives in SIZES) + " |")
    print("| --- |" + " ---: |" * len(SIZES))
    for title, options in {"": {}, ", random": {"split": "random"}, ", skewed": {"skewed": True}}.items():
        for name, mix in MIXES.items():
            found = [coverage(seeds, drives, mix, datasets, **options) for seeds, drives in SIZES]
            print(f"| {name}{title} | " + " | ".join(f"{100 * share:.1f}" for share in found) + " |", flush=True)
    print("\n| roads | spread | other roads | these roads |\n| ---: | ---: | ---: | ---: |")
    for roads, spread in ROADS:
        others, these = 100 * coverage_over_roads(roads, spread, datasets)
        print(f"| {roads} | {spread} | {others:.1f} | {these:.1f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
