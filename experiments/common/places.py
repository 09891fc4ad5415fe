"""Base stations at several places: folders of a scenario each, or streets of a family; which drives are where."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Drives
from beamkd.data import count_drives
from beamkd.sim import Family
from experiments.common.flags import load_drives


def load_places(config: Any, folder: Path) -> Drives:
    """The drives of all places, one after another; as `load_drives` where there is one."""
    if config.stations == 1:
        return load_drives(config, folder)
    parts, before = [], 0
    others = [Family().street(config.seed + number, config.street) for number in range(1, config.stations)]
    streets = [config.street, *others]
    for number, (street, drives) in enumerate(zip(streets, drives_by_place(config), strict=True)):
        # With a seed of its own: cars would else go the same way in all streets.
        changes = {"street": street, "drives": drives, "seed": config.seed + number, "stations": 1}
        own = load_drives(dataclasses.replace(config, **changes), folder)
        parts.append(own.replace(drive=own.drive + before))
        before += drives
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def drives_by_place(config: Any) -> list[int]:
    """How many drives each place has; they are numbered one place after another, from 1."""
    if config.source == "deepsense":
        return [count_drives(folder, config.scenario) for folder in config.data_dir]
    return [len(part) for part in np.array_split(np.arange(config.drives), config.stations)]


def place_of_drives(config: Any) -> np.ndarray:
    """The place of each drive by its number, [1 + drives]; there is no drive 0."""
    drives = drives_by_place(config)
    return np.repeat(np.arange(len(drives)), [drives[0] + 1, *drives[1:]])
