"""Statistics of drives: how they move, which beams are best, and how their powers compare."""

import numpy as np

from beamkd.base import Drives, InputError


def statistics(drives: Drives) -> dict[str, float]:
    """What describes drives past a base station, each figure by name.

    Steps go from a frame to the next recorded one of the same drive. Powers are compared in dB. A power 'k
    beside the best' is the one k beams before the best, median over the frames that have such a beam.

    Args:
      drives: at least one drive of at least two frames.

    Returns:
      Figure by name; shares in percent, powers in dB, lengths in m, angles in degrees.

    Raises:
      InputError: no drive has two frames.
    """
    power, position = np.asarray(drives.power, np.float64), np.asarray(drives.position, np.float64)
    number, beam = np.asarray(drives.drive), power.argmax(-1)
    same = number[1:] == number[:-1]
    if not same.any():
        raise InputError(f"drives: expected a drive of two frames or more, found {len(number)} frames")
    moved = np.abs(np.diff(beam))[same]
    metres = np.linalg.norm(np.diff(position, axis=0), axis=-1)[same]
    azimuth = np.rad2deg(np.arctan2(position[:, 1], position[:, 0]))
    level = 10 * np.log10(power)
    ranked = np.sort(level, -1)
    relative = level - ranked[:, -1:]
    best = ranked[:, -1]
    figures = {
        **_percentiles("frames a drive", np.unique(number, return_counts=True)[1], (5, 50, 95)),
        "beam unchanged, %": 100 * (moved == 0).mean(),
        "beam moves at most 1, %": 100 * (moved <= 1).mean(),
        "beam moves at most 3, %": 100 * (moved <= 3).mean(),
        "mean move of the beam": moved.mean(),
        **_percentiles("metres a frame", metres, (5, 50, 95)),
        **_percentiles("distance of the lane, m", position[:, 0], (1, 50, 99)),
        "azimuth a beam, degrees": abs(np.polyfit(beam, azimuth, 1)[0]) if np.ptp(beam) else np.nan,
        **{f"power {k} beside the best, dB": _beside(relative, beam, k) for k in range(1, 6)},
        "gap of the best two, dB": np.median(ranked[:, -1] - ranked[:, -2]),
        "best power, 95 % over 5 %, dB": np.percentile(best, 95) - np.percentile(best, 5),
        "floor, 5 % under the best, dB": np.percentile(relative, 5),
    }
    return {name: float(value) for name, value in figures.items()}


def _percentiles(name: str, values: np.ndarray, percents: tuple[int, ...]) -> dict[str, float]:
    return {f"{name}, {p} %": np.percentile(values, p) for p in percents}


def _beside(relative: np.ndarray, beam: np.ndarray, k: int) -> float:
    """Median of the relative power [F, M] in dB at the beam k before the best [F]."""
    has = np.flatnonzero(beam >= k)
    return np.median(relative[has, beam[has] - k]) if len(has) else np.nan
