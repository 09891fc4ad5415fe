"""Cases of the benchmark: the simulator, reading of folders, and the whole data-free pipeline.

Each case is a function of a `Bench` that yields rows for results.json.
"""

import dataclasses
import functools
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from beamkd.base import Array
from beamkd.data import make_windows, read_deepsense, write_deepsense
from beamkd.sim import (
    Building,
    Street,
    beam_powers,
    channel,
    drive_traffic,
    hardware_codebook,
    lidar_scan,
    motion_masks,
    simulate,
    simulate_drive,
    trace_paths,
)
from beamkd.sim.simulate import CHUNK
from beamkd.sim.track import TRACKED
from experiments import datafree
from experiments.benchmarks.timing import Bench, Point, Timing, compile_program, repeated, sample
from experiments.common.flags import SIMULATED_DRIVES

STREET = Street(others=3, buildings=(Building(18.0), Building(-6.0)))
"""Four boxes, the served car among them, and two walls: 15 paths."""

TRACK = 512
"""Frames of a track."""


def _simulate(bench: Bench) -> Iterator[Timing]:
    """The whole simulator, random traffic to arrays in memory."""
    row = _time_simulation(bench, STREET, CHUNK)
    program = compile_program(
        jax.vmap(lambda key: simulate_drive(key, STREET)), jax.random.split(jax.random.key(0), CHUNK)
    )
    rate, matmul = program.cost.flops / row["milliseconds"] * 1e3, bench.matmul_reach(Point(CHUNK))
    row |= {"flops": program.cost.flops, "bytes": program.cost.bytes, "flops_per_second": rate}
    row |= {"matmul_flops_per_second": matmul, "fraction_of_matmul": rate / matmul}
    yield row | {"peak_bytes": program.peak_bytes}


def _simulate_growth(bench: Bench) -> Iterator[Timing]:
    """The whole simulator with more walls, boxes, antennas and drives, one at a time."""
    few = bench.quick
    for drives in (CHUNK, 2 * CHUNK) if few else (CHUNK, 2 * CHUNK, 4 * CHUNK, 8 * CHUNK):
        yield _time_simulation(bench, STREET, drives)
    for walls in (8,) if few else (0, 4, 8):
        fronts = tuple(Building(18.0 + 2 * wall) for wall in range(walls))
        yield _time_simulation(bench, dataclasses.replace(STREET, buildings=fronts), CHUNK)
    for others in (7,) if few else (0, 7, 15):
        yield _time_simulation(bench, dataclasses.replace(STREET, others=others), CHUNK)
    for antennas in (64,) if few else (32, 64, 128):
        yield _time_simulation(bench, dataclasses.replace(STREET, antennas=antennas), CHUNK)


def _time_simulation(bench: Bench, street: Street, drives: int) -> Timing:
    def simulation():
        return simulate(jax.random.key(bench.seed), street, drives, devices=1)

    began = time.perf_counter()
    made = simulation()
    first = time.perf_counter() - began
    seconds = sample(repeated(simulation), bench.repeats)
    walls, boxes = len(street.buildings), 1 + street.others
    more = {
        "drives": drives,
        "walls": walls,
        "boxes": boxes,
        "antennas": street.antennas,
        "paths": 1 + walls + 4 * street.others,
        "drives_per_second": drives / np.median(seconds),
        "windows_per_second": len(make_windows(made)) / np.median(seconds),
    }
    # What the first call took more than the later ones; next to nothing where the street was compiled before.
    compiling = max(0.0, first - float(np.median(seconds)))
    return bench.row(Point(batch=drives), seconds, len(made.drive), compiling, **more)


def _simulate_part(part: str, bench: Bench) -> Iterator[Timing]:
    """Channel, beam powers or LiDAR alone. Padding is computed too, but not counted as frames."""
    key, street = jax.random.key(bench.seed), STREET
    traffic = jax.jit(jax.vmap(lambda key: drive_traffic(key, street)))(jax.random.split(key, CHUNK))

    def channels(traffic):
        boxes = jax.tree.map(lambda leaf: leaf[:, 1:], traffic.vehicles)
        trace = jax.vmap(trace_paths, (0, 0, None, 0, None))
        paths = trace(traffic.antenna, boxes, street.walls, traffic.velocity, traffic.other_velocity)
        return channel(paths, street.antennas)

    def scans(key, vehicles):
        keys = jax.random.split(key, street.max_frames)
        return jax.vmap(lambda key, boxes: lidar_scan(key, boxes, street.walls))(keys, vehicles)

    if part == "channel":
        program = compile_program(jax.vmap(channels), traffic)
    elif part == "beams":
        program = compile_program(beam_powers, jax.jit(jax.vmap(channels))(traffic), hardware_codebook(street))
    else:
        program = compile_program(jax.vmap(scans), jax.random.split(key, CHUNK), traffic.vehicles)
    seconds = sample(repeated(lambda: program.call(*program.args)), bench.repeats)
    frames = int(traffic.frames.sum())
    yield bench.row(Point(batch=CHUNK), seconds, frames, program.compile_seconds, program.cost, program.peak_bytes)


def _masks(*track: Array) -> Array:
    """Motion masks of the frames along a track."""
    return motion_masks(TRACKED["camera"](*track))


TRACK_SENSORS = TRACKED | {"masks": _masks}
"""What is sensed along a track, by name."""


def _track(sensor: str, bench: Bench) -> Iterator[Timing]:
    """One sensor along a car's track past the base station."""
    along = np.linspace(8.0, -8.0, CHUNK if bench.quick else TRACK)
    position = np.stack([np.full_like(along, 10.0), along], axis=1).astype(np.float32)
    velocity = np.broadcast_to(np.float32([0.0, -4.0]), position.shape)
    drive = np.zeros(len(along), np.int32)
    program = compile_program(TRACK_SENSORS[sensor], jax.random.key(bench.seed), position, velocity, drive)
    seconds = sample(repeated(lambda: program.call(*program.args)), bench.repeats)
    yield bench.row(Point(batch=len(along)), seconds, len(along), program.compile_seconds, None, program.peak_bytes)


def _read_folder(bench: Bench) -> Iterator[Timing]:
    """Read a DeepSense folder, the disk's cache warm."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = bench.folder or Path(scratch) / "street"
        if not bench.folder:
            drives = CHUNK // 4 if bench.quick else SIMULATED_DRIVES
            write_deepsense(simulate(jax.random.key(bench.seed), STREET, drives), folder, bench.scenario)
        frames = len(read_deepsense(folder, bench.scenario).drive)
        seconds = sample(repeated(lambda: read_deepsense(folder, bench.scenario)), bench.repeats)
        yield bench.row(Point(batch=frames), seconds, frames)


def _pipeline(bench: Bench) -> Iterator[Timing]:
    """The whole data-free experiment with each recipe, compilation included, once."""
    devices = max(point.devices for point in bench.points)
    folder = {"source": "deepsense", "data_dir": (bench.folder,), "scenario": bench.scenario, "split": "inorder"}
    source = folder if bench.folder else {}  # split as by the authors' program
    flags = {"seed": bench.seed, "quick": bench.quick, "devices": devices, **source}
    for recipe, seeds in itertools.product(bench.pipeline_recipes, bench.pipeline_seeds):
        # All settings of the recipe, as the command line takes them: those of the class itself are the published ones.
        config = dataclasses.replace(datafree.defaults(["--recipe", recipe]), seeds=seeds, **flags)
        jax.clear_caches()  # each run compiles for itself, whatever ran before it
        with tempfile.TemporaryDirectory() as scratch:
            datafree.run(dataclasses.replace(config, out=Path(scratch)))
            took = json.loads((Path(scratch) / "results.json").read_text())["seconds"]
        point = Point(config.dfkd_fit.batch_size, seeds, devices)
        more = {"recipe": recipe, "seconds_per_seed": took["total"] / seeds, "phases": took["phases"]}
        yield bench.row(point, np.array([took["total"]]), seeds, took["compile"], **more)


DATA_CASES: dict[str, Callable[[Bench], Iterator[Timing]]] = {
    "simulate": _simulate,
    "simulate_channel": functools.partial(_simulate_part, "channel"),
    "simulate_beams": functools.partial(_simulate_part, "beams"),
    "simulate_lidar": functools.partial(_simulate_part, "lidar"),
    "simulate_growth": _simulate_growth,
    **{f"track_{sensor}": functools.partial(_track, sensor) for sensor in TRACK_SENSORS},
    "read_folder": _read_folder,
    "pipeline": _pipeline,
}
"""Cases of the simulator, of reading and of the pipeline by name, in the order of the table."""
