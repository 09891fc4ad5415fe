"""The simulated street beside the measured one: `python -m experiments.street --help`.

Prints the statistics of simulated drives next to those measured in DeepSense 6G Scenario 8, and draws one drive, and
one moment of it as every sensor sees it.
"""

import dataclasses
import json
import pathlib
import sys
import time

import jax
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from beamkd.base import FUTURE, InputError, expect_at_least
from beamkd.data import forward_of, sensor_batch
from beamkd.data.inputs import METRES_PER_UNIT
from beamkd.data.statistics import statistics
from beamkd.models import load_network
from beamkd.report.street_figures import draw_drive, draw_moment, middle_of
from beamkd.sim import RAYS, Building, SimulatedDrive, Street, simulate, simulate_drive
from experiments.common.flags import main

SHOWN = ("lidar", "radar", "camera")
"""Sensors in the picture of a moment."""

MEASURED = {
    "frames a drive, 5 %": 42,
    "frames a drive, 50 %": 48,
    "frames a drive, 95 %": 60,
    "beam unchanged, %": 30.5,
    "beam moves at most 1, %": 58.3,
    "beam moves at most 3, %": 95.5,
    "mean move of the beam": 1.45,
    "metres a frame, 5 %": 0.22,
    "metres a frame, 50 %": 0.38,
    "metres a frame, 95 %": 0.49,
    "distance of the lane, m, 1 %": 8.6,
    "distance of the lane, m, 50 %": 9.7,
    "distance of the lane, m, 99 %": 11.3,
    "azimuth a beam, degrees": 1.24,
    "power 1 beside the best, dB": -0.34,
    "power 2 beside the best, dB": -0.91,
    "power 3 beside the best, dB": -1.6,
    "power 4 beside the best, dB": -2.5,
    "power 5 beside the best, dB": -3.8,
    "gap of the best two, dB": 0.17,
    "best power, 95 % over 5 %, dB": 5.8,
    "floor, 5 % under the best, dB": -6.4,
}
"""Scenario 8, 4,043 frames of 83 drives. A. Alkhateeb et al., "DeepSense 6G: A Large-Scale Real-World
Multi-Modal Sensing and Communication Dataset", IEEE Communications Magazine, 2023."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare simulated drives with Scenario 8 and draw one of them."""

    drives: int = 83
    """Drives to simulate."""
    seed: int = 0
    """Seed of the first simulation."""
    seeds: int = 1
    """Simulations, each with the next seed, one column each."""
    others: int = 0
    """Vehicles besides the served car."""
    building: float = 0.0
    """Metres from the base station to a concrete front across the road; 0 for none."""
    networks: tuple[pathlib.Path, ...] = ()
    """Networks of LiDAR that a run left, FILE.safetensors, whose predictions the picture of a moment shows."""
    later: int = 6
    """Frames from where the car passes the base station to that moment; less than 0 before it."""
    out: pathlib.Path = pathlib.Path("runs/street")
    """Folder for results.json and the figures."""

    def __post_init__(self):
        expect_at_least(self, drives=1, seed=0, seeds=1, others=0)


def tolerance(name: str) -> tuple[float, str]:
    """How far a simulated figure may be from the measured one, as a number and in words."""
    if name.endswith("dB") and abs(MEASURED[name]) > 0.2:
        return 1.0, "1 dB"
    if name.startswith("beam"):
        return 5.0, "5 pts"
    return 0.2 * abs(MEASURED[name]), "20 %"


def within(name: str, value: float) -> bool:
    """Whether a simulated figure is near enough to the measured one."""
    return abs(value - MEASURED[name]) <= tolerance(name)[0]


def table(columns: list[dict[str, float]], seed: int) -> Table:
    """Measured figures beside simulated ones, a column for each seed from the first."""
    result = Table(title="Simulated street beside DeepSense 6G Scenario 8", box=SIMPLE)
    result.add_column("figure", no_wrap=True)
    for head in ("real", *(f"seed {seed + i}" for i in range(len(columns))), "limit", "ok"):
        result.add_column(head, justify="right")
    for name, measured in MEASURED.items():
        values = [column[name] for column in columns]
        holds = all(within(name, value) for value in values)
        cells = [f"{value:.2f}" for value in (measured, *values)]
        verdict = "[green]yes[/]" if holds else "[red]no[/]"
        result.add_row(name, *cells, tolerance(name)[1], verdict)
    return result


def _probabilities(
    drive: SimulatedDrive, street: Street, paths: tuple[pathlib.Path, ...], frame: int
) -> dict[str, np.ndarray]:
    """What networks of LiDAR say in a frame, by the name of their file: of the beams in each slot, [J + 1, M]."""
    said = {}
    for path in paths:
        model = load_network(path)
        if [*model.inputs] != ["lidar"]:
            raise InputError(f"--networks: expected networks of lidar, found {path}, of {', '.join(model.inputs)}")
        frames, rays = model.inputs["lidar"]
        if rays != len(RAYS) or model.module.beams != street.beams or frames > frame:
            found = f"{path}, for {frames} frames, {rays} and {model.module.beams}"
            expected = f"networks for {len(RAYS)} rays, {street.beams} beams and {frame} frames at most"
            raise InputError(f"--networks: expected {expected}, found {found}")
        scans = drive.sensors["lidar"][None, frame + 1 - frames : frame + 1]
        batch = sensor_batch({"lidar": scans / METRES_PER_UNIT}, FUTURE)
        logits = forward_of(model, predicted_only=True)(model.params, batch).logits
        said[path.stem] = np.asarray(jax.nn.softmax(logits[0]))
    return said


def run(config: Config) -> None:
    """Simulate, compare, draw."""
    buildings = (Building(config.building),) if config.building else ()
    street = Street(others=config.others, buildings=buildings)
    console = Console(width=None if sys.stdout.isatty() else 120)
    columns = []
    for seed in range(config.seed, config.seed + config.seeds):
        began = time.perf_counter()
        drives = simulate(jax.random.key(seed), street, config.drives)
        seconds = time.perf_counter() - began
        columns.append(statistics(drives))
        console.print(f"seed {seed}: {config.drives} drives, {len(drives.drive)} frames in {seconds:.2f} s")
    console.print(table(columns, config.seed))
    config.out.mkdir(parents=True, exist_ok=True)
    results = {
        "experiment": "street",
        "config": dataclasses.asdict(config),
        "measured": MEASURED,
        "simulated": columns,
        "holds": {name: all(within(name, c[name]) for c in columns) for name in MEASURED},
    }
    (config.out / "results.json").write_text(json.dumps(results, indent=2, default=str) + "\n")
    key = jax.random.fold_in(jax.random.key(config.seed), 0)  # the first of the drives above
    drive = jax.jit(simulate_drive, static_argnums=(1, 2))(key, street, SHOWN)
    draw_drive(drive, street, config.out / "street.png")
    frame = middle_of(drive) + config.later
    if not 1 <= frame < int(drive.traffic.frames) - FUTURE:
        raise InputError(f"--later: expected a frame of the drive, found {config.later}")
    draw_moment(drive, street, frame, _probabilities(drive, street, config.networks, frame), config.out / "moment.png")
    console.print(f"{config.out / 'street.png'}, {config.out / 'moment.png'}, {config.out / 'results.json'}")


if __name__ == "__main__":
    main("street", Config, run)
