"""What a run left in its folder, and what every report says of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from beamkd.base import InputError
from beamkd.report.tables import markdown_table


def read_results(folder: Path) -> dict[str, Any]:
    """What `results.json` in `folder` holds.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: expected the results of a finished run, found no file ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: expected JSON, found {error}") from None
    if not isinstance(results, dict):
        raise InputError(f"{path}: expected the results of a run, found {type(results).__name__}")
    return results


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays behind the figures of the run in `folder`.

    Raises:
      InputError: there are none, or they cannot be read.
    """
    path = folder / "figures.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: expected the arrays behind the figures, found {error}") from None


def read_history(folder: Path, phase: str) -> dict[str, np.ndarray]:
    """What was logged of a phase by name, [epochs, members]; nothing of a phase that had nothing to train."""
    path = folder / "metrics.jsonl"
    try:
        lines = [line for line in map(json.loads, path.read_text().splitlines()) if line["phase"] == phase]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a line an epoch, found {error}") from None
    names = [name for name in (lines[0] if lines else ()) if name not in ("phase", "epoch")]
    return {name: np.array([line[name] for line in lines], float) for name in names}


SENSORS = {
    "lidar": "LiDAR",
    "radar": "radar",
    "doppler": "radar's Doppler",
    "camera": "camera",
    "masks": "motion masks",
    "gps": "GPS",
}
"""How reports call sensors."""


def data_source(results: dict[str, Any]) -> str:
    """What of the data is simulated; of what a folder holds no more is said than the folder says of itself."""
    data, config = results["data"], results["config"]
    sensors = config.get("sensors", ["lidar"])
    if data["source"] == "sim":
        seen = _and(["everything, traffic", *(SENSORS[name] for name in sensors), "receive powers"])
        return f"the built-in simulated street. Simulated: {seen}."
    along = [name for name in sensors if name in config.get("simulated", ())]
    along += ["lidar"] * (config["lidar"] == "raycast" and "lidar" in sensors)
    given = _and(["Receive powers", "positions", *(SENSORS[name] for name in sensors if name not in along)])
    if data["source"] == "tfds":
        return f"a TFDS dataset ({data['origin']}). {given}: as in the dataset."
    scenario = data["scenario"]
    folder = f"a folder in the form of DeepSense 6G Scenario {scenario}"
    if isinstance(scenario, list | tuple):
        folder = f"folders in the form of DeepSense 6G Scenarios {', '.join(map(str, scenario))}"
    if data.get("origin"):
        folder += f" ({data['origin']})"
    made = f" {_and([SENSORS[name] for name in along])}: simulated along these positions." if along else ""
    return f"{folder}. {given}: as in the folder.{made}"


def _and(words: list[str]) -> str:
    """A list in words."""
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])


def windows_and_seeds(results: dict[str, Any]) -> str:
    """How many windows and drives each part of the split has, and which seeds were run."""
    data, config = results["data"], results["config"]
    windows = ", ".join(f"{count:,} {part} ({data['drives'][part]} drives)" for part, count in data["windows"].items())
    return f"Windows of the first seed: {windows}. Seeds: {config['seeds']}, from {config['seed']}."


def time_section(seconds: dict[str, Any]) -> list[str]:
    """Paragraphs on what took how long."""
    phases = [["Phase", "Seconds"], *([name, f"{value:.1f}"] for name, value in seconds["phases"].items())]
    said = f"{seconds['total']:.1f} s in all, {seconds['compile']:.1f} s of these in compilation."
    return ["## Time", said, markdown_table(phases)]
