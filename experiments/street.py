"""The simulated street beside the measured one: `python -m experiments.street --help`.

Prints the statistics of simulated drives next to those measured in DeepSense 6G Scenario 8, and draws one
drive.
"""

import dataclasses
import json
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from beamkd.base import expect_at_least
from beamkd.data.statistics import statistics
from beamkd.sim import (
    RAYS,
    Boxes,
    Building,
    SimulatedDrive,
    Street,
    cast_rays,
    simulate,
    simulate_drive,
)
from experiments.common.flags import main

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
    out: pathlib.Path = pathlib.Path("runs/street")
    """Folder for results.json and the figure."""

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


def draw(drive: SimulatedDrive, street: Street, path: pathlib.Path) -> None:
    """One drive: from above, as the LiDAR sees it, and as the beams do."""
    frames = int(drive.traffic.frames)
    middle = int(np.abs(np.asarray(drive.traffic.antenna[:frames, 1])).argmin())
    figure = Figure(figsize=(16, 5.6), layout="constrained")  # needs no display
    above, lidar, beams = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
    _draw_street(above, drive, street, frames, middle)
    _draw_lidar(lidar, np.asarray(drive.sensors["lidar"][:frames]), street, middle)
    _draw_beams(beams, np.asarray(drive.power[:frames]), street, middle)
    figure.suptitle("One simulated drive past a 60 GHz base station with a LiDAR", fontsize=13)
    figure.savefig(path, dpi=110)


def _draw_street(axes, drive: SimulatedDrive, street: Street, frames: int, middle: int) -> None:
    """The street from above in one frame: the base station looks up, the left of the road is on the left."""
    vehicles = jax.tree.map(lambda x: x[middle], drive.traffic.vehicles)
    exact = np.asarray(cast_rays(jnp.asarray(RAYS), vehicles, street.walls))
    reach = np.where(np.isfinite(exact), exact, 17.0)
    for bearing, length, hits in zip(RAYS[::4], reach[::4], np.isfinite(exact)[::4], strict=True):
        line = axes.plot([0, length * np.sin(bearing)], [0, length * np.cos(bearing)], lw=0.7, zorder=1)
        line[0].set_color("tab:orange" if hits else "0.87")
    for wall in np.stack([street.walls.start, street.walls.end], 1):
        axes.plot(wall[:, 1], wall[:, 0], color="saddlebrown", lw=5, solid_capstyle="butt", label="building front")
    for k in range(len(vehicles.heading)):
        name = "served car" if k == 0 else ("other vehicles" if k == 1 else None)
        outline = _outline(jax.tree.map(lambda x, k=k: np.asarray(x[k]), vehicles))
        axes.fill(outline[:, 1], outline[:, 0], color="tab:blue" if k == 0 else "0.45", label=name, zorder=3)
    track = np.asarray(drive.traffic.antenna[:frames])
    axes.plot(track[:, 1], track[:, 0], ".-", ms=3, lw=0.6, color="navy", label="its antenna", zorder=4)
    onwards = np.array([1.2 * np.sign(street.end - street.start), 0])
    axes.annotate("", track[-1, ::-1] + onwards, track[-1, ::-1], arrowprops={"arrowstyle": "->", "color": "navy"})
    axes.plot(0, 0, "^", ms=11, color="tab:red", label="base station", zorder=5)
    for edge in (-street.sector, street.sector):
        label = "sector of the beams" if edge > 0 else None
        angle = np.deg2rad(street.boresight + edge)
        axes.plot([0, 17 * np.sin(angle)], [0, 17 * np.cos(angle)], "--", color="tab:red", lw=1, label=label)
    axes.set(xlim=(14, -14), ylim=(-1.5, 23), xlabel="along the road, m", ylabel="across the road, m")
    axes.set(title=f"From above, frame {middle}, LiDAR rays (every 4th)", aspect="equal")
    axes.legend(loc="upper center", ncols=2, fontsize=8, framealpha=0.95)


def _outline(box: Boxes) -> np.ndarray:
    """Corners of one box, [4, 2] m."""
    cos, sin = np.cos(box.heading), np.sin(box.heading)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * box.size / 2
    return box.centre + corners @ np.array([(cos, sin), (-sin, cos)])


def _draw_lidar(axes, ranges: np.ndarray, street: Street, middle: int) -> None:
    shown = np.ma.masked_equal(ranges, 0)
    bearing = np.rad2deg(RAYS)
    image = axes.pcolormesh(np.arange(len(ranges)), bearing, shown.T, cmap="viridis_r", vmin=5, vmax=15)
    axes.axvline(middle, color="0.5", lw=0.8, ls=":")
    axes.set(xlabel=f"frame ({street.slot_seconds} s each)", ylabel="bearing from broadside, degrees")
    axes.set(title="LiDAR, what stands still removed (white: no return)")
    axes.figure.colorbar(image, ax=axes, label="range, m")


def _draw_beams(axes, power: np.ndarray, street: Street, middle: int) -> None:
    level = 10 * np.log10(power)
    image = axes.pcolormesh(np.arange(len(power)), np.arange(power.shape[1]), level.T, cmap="magma")
    axes.plot(np.arange(len(power)), power.argmax(1), "o", ms=3.5, mfc="none", color="cyan", label="best beam")
    axes.axvline(middle, color="0.7", lw=0.8, ls=":")
    axes.set(xlabel=f"frame ({street.slot_seconds} s each)", ylabel="beam", title="Receive power of each beam")
    axes.legend(loc="upper left", fontsize=8)
    axes.figure.colorbar(image, ax=axes, label="power, dB over a perfect beam's from mid-lane")


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
        "config": {**dataclasses.asdict(config), "out": str(config.out)},
        "measured": MEASURED,
        "simulated": columns,
        "holds": {name: all(within(name, c[name]) for c in columns) for name in MEASURED},
    }
    (config.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    key = jax.random.fold_in(jax.random.key(config.seed), 0)  # the first of the drives above
    draw(jax.jit(simulate_drive, static_argnums=1)(key, street), street, config.out / "street.png")
    console.print(f"{config.out / 'street.png'}, {config.out / 'results.json'}")


if __name__ == "__main__":
    main("street", Config, run)
