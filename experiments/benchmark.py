"""How fast everything is on this machine: `python -m experiments.benchmark --help`.

Times the simulator, reading of folders, training steps and epochs, evaluation, inference and the whole data-free
pipeline, and sets them beside a large matrix product on the same device and, with `--against`, beside PyTorch.

The PyTorch figures come from a program that prints JSON: {"batch": 64, CASE: {"milliseconds_per_step": …}, …}.
Run it right before, on the same machine. Ratios are its milliseconds over ours for a step of one member. Its
student_data_free is to run the frozen teacher in every step: student_data_free_teacher is ours with that, and
student_data_free is ours as it trains, on answers that the teacher gave once, before the first epoch.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax

from beamkd.base import InputError
from experiments.benchmarks.camera import CAMERA_CASES
from experiments.benchmarks.data import DATA_CASES
from experiments.benchmarks.networks import NETWORK_CASES, TRAINING
from experiments.benchmarks.rounds import ROUND_CASES
from experiments.benchmarks.timing import Bench, Point, Timing, matmul_rate, memory_rate
from experiments.common.flags import main
from experiments.common.run import Run, environment

CASES = NETWORK_CASES | CAMERA_CASES | ROUND_CASES | DATA_CASES
"""All cases by name, in the order of the table."""

LONG = (*CAMERA_CASES, *ROUND_CASES, "pipeline")
"""Cases that run only where they are asked for."""

QUICK = (*TRAINING, "epoch_student", "infer_student", "infer_teacher", "simulate", "read_folder")
"""Cases of `--quick`; those in `THEIRS` only beside PyTorch."""

THEIRS = {"student_data_free_teacher": "student_data_free"} | {
    name: name.removesuffix("_shared") for name in CAMERA_CASES if name.endswith("_shared")
}
"""PyTorch's case that one of ours is set beside, where the name is another."""

MOST_BATCH, MOST_MEMBERS, MOST_SEEDS, MOST_REPEATS = 2**16, 2**12, 1000, 1000
"""Greatest numbers of windows a step, of members, of seeds of a pipeline and of samples. With many more, memory runs
out, upon which XLA on a CPU ends the process without a word to us, or the benchmark never ends."""

MOST_MILLISECONDS = 1e9
"""Greatest time of a step that a baseline may have; eleven days."""

CACHED = 2**19
"""Bytes of an array that caches hold."""

SPREAD_MEMBERS = 8
"""Members that are spread over devices, at least; as many as devices, if these are more."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Flags of the benchmark.

    Batches, members and devices are varied one at a time, the others at 64, 1 and 1, or at the first that is given.
    """

    cases: str = ""
    """Some of student_supervised, student_data_free, student_data_free_teacher, teacher_gru_supervised,
    teacher_cnn_gru_supervised, generator, epoch_student, epoch_student_data_free, epoch_teacher_gru,
    epoch_teacher_cnn_gru, evaluate_student, evaluate_teacher, infer_student, infer_teacher, simulate, simulate_channel,
    simulate_beams, simulate_lidar, simulate_growth, track_lidar, track_radar, track_doppler, track_camera, track_gps,
    track_masks, read_folder, camera_collab_student, camera_longterm_student_l8, camera_longterm_student_l3, the same
    with _shared behind (camera_collab_student_shared, camera_longterm_student_l8_shared,
    camera_longterm_student_l3_shared: neighbouring windows share masks), rounds_fedavg, rounds_fedmd, rounds_datafree
    (of 10, 30 and 100 nodes), pipeline, with commas between. All but the camera's, rounds and pipeline, which take
    minutes, if not given."""
    against: Path | None = None
    """JSON file with times of the same steps in PyTorch, to print ratios to."""
    batches: tuple[int, ...] = (1, 64, 256, 1024)
    """Windows a step."""
    members: tuple[int, ...] = (1, 8, 64)
    """Members that train or infer at once."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] | None = None
    """What networks compute in; float32 on a CPU and both elsewhere if not given."""
    pipeline_seeds: tuple[int, ...] = (1, 20)
    """Numbers of seeds to run the pipeline for."""
    pipeline_recipes: tuple[Literal["beamkd", "scenes", "paper", "prior"], ...] = ("beamkd", "paper")
    """Recipes to run it with: ours, and as published."""
    repeats: int = 5
    """Samples of each time, of which the median and the quartiles are reported; three where they take long."""
    data_dir: Path | None = None
    """DeepSense folder for read_folder and pipeline; simulated drives if not given."""
    scenario: int = 8
    """Number of its scenario."""
    seed: int = 0
    """Seed of simulated drives, and the pipeline's first."""
    out: Path | None = None
    """Folder of the run; runs/benchmark if not given."""
    quick: bool = False
    """Under a minute: one batch size, one member, one device, fewer cases, smaller matrix products; a small pipeline
    for one seed, with the first recipe."""
    devices: int | None = None
    """Most devices to use; all if not given."""

    # What a `Run` asks for besides: a benchmark starts anew, and shares no batch among devices.
    resume: ClassVar[bool] = False
    batch_devices: ClassVar[int] = 1

    def __post_init__(self):
        for name in self.chosen:
            if name not in CASES:
                raise InputError(f"--cases: expected some of {', '.join(CASES)}, found {name or 'an empty name'}")
        _expect_within("--batches", 1, MOST_BATCH, *self.batches)
        _expect_within("--members", 1, MOST_MEMBERS, *self.members)
        _expect_within("--pipeline-seeds", 1, MOST_SEEDS, *self.pipeline_seeds)
        _expect_within("--repeats", 1, MOST_REPEATS, self.repeats)
        _expect_within("--scenario", 1, 2**31 - 1, self.scenario)
        _expect_within("--seed", 0, 2**31 - max(self.pipeline_seeds), self.seed)
        _expect_within("--devices", 1, 2**31 - 1, 1 if self.devices is None else self.devices)
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise InputError(f"--data-dir: expected a folder, found none at {self.data_dir}")
        if self.dtypes == ():
            raise InputError("--dtypes: expected float32, bfloat16 or both, found none")
        if not self.pipeline_recipes:
            raise InputError("--pipeline-recipes: expected some of beamkd, scenes, paper, prior, found none")

    @property
    def chosen(self) -> list[str]:
        """Names of the cases to run."""
        if self.cases:
            return list(dict.fromkeys(self.cases.split(",")))
        if self.quick:
            return [name for name in QUICK if self.against or name not in THEIRS]
        return [name for name in CASES if name not in LONG]


def _expect_within(flag: str, least: int, most: int, *values: int) -> None:
    """Raise `InputError` unless there are values, all of them from `least` to `most`."""
    if not values or min(values) < least or max(values) > most:
        found = " ".join(map(str, values)) or "none"
        raise InputError(f"{flag}: expected {least} to {most}, found {found}")


def run(config: Benchmark) -> None:
    """Run the benchmark; leaves its folder with results, report and figures."""
    config = _quick(config) if config.quick else config
    baseline = _read_baseline(config) if config.against else None
    run = Run("benchmark", config)
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is timed, too
    dtypes = config.dtypes or (("float32",) if jax.default_backend() == "cpu" else ("float32", "bfloat16"))
    with run.phase("rates"):
        rates = _device_rates(config, dtypes)
    bench = Bench(
        points=points(config.batches, config.members, dtypes, run.devices),
        dtypes=dtypes,
        repeats=config.repeats,
        rates=rates["matmul_flops_per_second"],
        seed=config.seed,
        quick=config.quick,
        folder=config.data_dir,
        scenario=config.scenario,
        pipeline_seeds=config.pipeline_seeds,
        pipeline_recipes=config.pipeline_recipes,
    )
    throughput = {}
    for name in config.chosen:
        with run.phase(name):
            throughput[name] = _time(name, bench)
        run.say(f"{name:<28} {run.seconds['phases'][name]:6.1f} s")
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")  # of all cases; a CPU does not tell
    parts = {"rates": rates, "device_peak_bytes": peak, "throughput": throughput}
    if baseline:
        parts["against"] = {"file": config.against, **baseline, "ratios": ratios(throughput, baseline)}
    run.finish(environment={**environment(), "cores": _cores()}, **parts)
    from beamkd.report import benchmark  # here, for Matplotlib would delay the first step

    benchmark.write(run.folder)
    for table in benchmark.console_tables(run.folder):
        run.say(table)
    run.say(benchmark.LEGEND)
    run.say(f"report and figures in {run.folder}, {run.seconds['total']:.0f} s in all")


def _time(name: str, bench: Bench) -> list[Timing]:
    """Rows of a case.

    Raises:
      InputError: memory runs out.
    """
    try:
        return list(CASES[name](bench))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(f"{name}: expected --batches and --members that fit into memory, found larger ones") from None


def _device_rates(config: Benchmark, dtypes: tuple[str, ...]) -> dict[str, Any]:
    """What one device reaches: FLOP/s of a large matrix product by dtype, bytes a second of memory and of caches."""
    rows, size = (2048, 2**26) if config.quick else (4096, 2**28)
    types = dict.fromkeys(("float32", *dtypes))  # the simulator computes in float32 whatever the networks do
    return {
        "matmul_flops_per_second": {dtype: matmul_rate(dtype, rows, config.repeats) for dtype in types},
        "memory_bytes_per_second": memory_rate(size, config.repeats),
        "cache_bytes_per_second": memory_rate(CACHED, config.repeats),
    }


def _quick(config: Benchmark) -> Benchmark:
    """With the first point and recipe alone, on one device unless the user says otherwise."""
    first = points(config.batches, config.members, ("float32",), 1)[0]
    one = {"batches": (first.batch,), "members": (first.members,), "devices": config.devices or 1}
    return dataclasses.replace(config, **one, pipeline_seeds=(1,), pipeline_recipes=config.pipeline_recipes[:1])


def points(
    batches: tuple[int, ...], members: tuple[int, ...], dtypes: tuple[str, ...], devices: int
) -> tuple[Point, ...]:
    """Where to time training and inference: along one axis at a time through the first point, in each dtype."""
    batch, alone = _preferred(batches, 64), _preferred(members, 1)
    axes = [Point(size, alone) for size in (batch, *batches)] + [Point(batch, count) for count in members]
    if devices > 1:
        powers = [2**power for power in range(devices.bit_length()) if 2**power < devices]
        axes += [Point(batch, max(SPREAD_MEMBERS, count), count) for count in (*powers, devices)]
    return tuple(dataclasses.replace(point, dtype=dtype) for dtype in dtypes for point in dict.fromkeys(axes))


def _preferred(values: tuple[int, ...], value: int) -> int:
    return value if value in values else values[0]


def _read_baseline(config: Benchmark) -> dict[str, Any]:
    """Batch and milliseconds by case that the PyTorch program printed.

    Raises:
      InputError: the file is missing or not of that kind, or its batch size is not among ours.
    """
    path = config.against
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"--against: expected a JSON file, found {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: expected JSON, found {error}") from None
    if not isinstance(found, dict) or type(found.get("batch")) is not int:
        raise InputError(f'{path}: expected an object with a whole number "batch", found {str(found)[:80]}')
    milliseconds = {}
    for case, entry in found.items():
        if isinstance(entry, dict):
            value = entry.get("milliseconds_per_step")
            if type(value) not in (int, float) or not 0 < value <= MOST_MILLISECONDS:
                expected = f"{case}.milliseconds_per_step of more than 0, at most {MOST_MILLISECONDS:.0f}"
                raise InputError(f"{path}: expected {expected}, found {str(value)[:80]}")
            milliseconds[case] = value
    if not milliseconds:
        raise InputError(f"{path}: expected cases with milliseconds_per_step, found none")
    if found["batch"] not in config.batches:
        raise InputError(f"{path}: expected a batch of {' or '.join(map(str, config.batches))}, found {found['batch']}")
    about = {name: found.get(name) for name in ("torch", "threads")}
    return {**about, "batch": found["batch"], "milliseconds": milliseconds}


def ratios(throughput: dict[str, list[Timing]], baseline: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """How many times as long PyTorch takes for a step as we do for that of one member, by case, at its batch size."""
    found = {}
    for case, rows in throughput.items():
        theirs = THEIRS.get(case, case)
        milliseconds = baseline["milliseconds"].get(theirs)
        same = [row for row in rows if row["batch"] == baseline["batch"]]
        if milliseconds and same:
            found[case] = [
                {name: row[name] for name in ("batch", "members", "devices", "dtype")}
                | {"pytorch_case": theirs, "ratio": milliseconds * row["members"] / row["milliseconds"]}
                for row in same
            ]
    return found


def _cores() -> int | None:
    """CPU cores that this process may use, for instance one under `taskset -c 0`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":
    main("benchmark", Benchmark, run)
