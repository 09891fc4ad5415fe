"""A study on each of several roads, folders or streets of a family, and what is claimed of roads."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from beamkd.base import InputError
from beamkd.claims import judge_over_roads
from beamkd.data import count_drives
from beamkd.data.windows import FRACTIONS, part_sizes
from experiments.common.folder import CONFIG, RESULTS, ROADS, read_json
from experiments.common.run import Run
from experiments.common.study_flags import Study

LEAST = 2
"""Drives in each part of a road's split."""

APART = 1000
"""Seeds between those of two streets, so that nothing of one is drawn as of another."""


def roads_of(config: Study) -> dict[str, Study]:
    """The flags of each road's own study, by the name of its folder, or its street; none if there is a single road.

    Raises:
      InputError: two folders have the same name; or a street cannot be as it was drawn.
    """
    if config.streets:
        return {f"street{number}": _on_street(config, number) for number in _numbers(config)}
    if config.source != "deepsense" or len(config.data_dir) < 2:
        return {}
    roads: dict[str, Study] = {}
    for folder in config.data_dir:
        name = Path(folder).resolve().name
        if name in roads:
            raise InputError(f"--data-dir: expected folders of unlike names, a road each, found two of name {name}")
        roads[name] = dataclasses.replace(config, data_dir=(folder,))
    return roads


def _numbers(config: Study) -> range:
    return range(config.first_street, config.first_street + config.streets)


def _on_street(config: Study, number: int) -> Study:
    street = config.family.street(number, config.street)
    return dataclasses.replace(config, streets=0, street=street, seed=config.seed + APART * number)


def check_roads(roads: dict[str, Study]) -> None:
    """Look at all roads before the first is studied.

    Raises:
      InputError: a folder cannot be read, or a part of a road's split would have a single drive, by which no interval
        over drives can be told.
    """
    for name, own in roads.items():
        drives = own.drives if own.source == "sim" else count_drives(own.data_dir[0], own.scenario)
        if min(part_sizes(drives, FRACTIONS[own.split])) < LEAST:
            raise InputError(f"{name}: expected {LEAST} drives or more in each part, found {drives} drives in all")


def study_roads(config: Study, roads: dict[str, Study], study: Callable[[Any], None]) -> Run:
    """Run the study of each road in a folder of its own within that of the run, and judge the claims over all."""
    run, found = Run("study", config), {}
    for name, own in roads.items():
        folder = run.folder / ROADS / name
        run.say(f"road {name}")
        with run.phase(name):
            study(dataclasses.replace(own, out=folder, resume=config.resume and (folder / CONFIG).exists()))
        found[name] = read_json(folder / RESULTS)
    claims = judge_over_roads([[_bounded(claim) for claim in road["claims"]] for road in found.values()])
    run.finish(roads=found, claims=claims)
    return run


def _bounded(claim: dict[str, Any]) -> dict[str, Any]:
    """A claim of results.json, where null stands for what has no bound."""
    ends = {"low": -np.inf, "high": np.inf}
    return claim | {end: bound if claim[end] is None else claim[end] for end, bound in ends.items()}
