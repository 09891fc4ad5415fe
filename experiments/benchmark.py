"""How fast everything is on this machine: `python -m experiments.benchmark --help`.

Times the simulator, reading of folders, training steps and epochs, evaluation, inference and the whole data-free
pipeline, and sets them beside a large matrix product on the same device and, with `--against`, beside PyTorch.

The PyTorch figures come from a program that prints JSON: {"batch": 64, CASE: {"milliseconds_per_step": …}, …}.
Run it right before, on the same machine. Ratios are its milliseconds over ours for a step of one member.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax

from beamkd import report_benchmark
from beamkd.base import InputError, expect_at_least
from experiments.benchmark_data import DATA_CASES
from experiments.benchmark_networks import NETWORK_CASES, TRAINING
from experiments.flags import main
from experiments.run import Run, environment
from experiments.timing import Bench, Point, Row, matmul_rate, memory_rate

CASES = NETWORK_CASES | DATA_CASES
"""All cases by name, in the order of the table."""

LONG = ("pipeline",)
"""Cases that run only where they are asked for."""

QUICK = (*TRAINING, "epoch_student", "infer_student", "infer_teacher", "simulate", "read_folder")
"""Cases of `--quick`."""

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
    """Some of student_supervised, student_data_free, teacher_gru_supervised, teacher_cnn_gru_supervised, generator,
    epoch_student, epoch_student_data_free, epoch_teacher_gru, epoch_teacher_cnn_gru, evaluate_student,
    evaluate_teacher, infer_student, infer_teacher, simulate, simulate_channel, simulate_beams, simulate_lidar,
    simulate_growth, read_folder, pipeline, with commas between. All but pipeline, which takes minutes, if not given."""
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
    """Under a minute: one batch size, one member, one device, fewer cases, smaller matrix products."""
    devices: int | None = None
    """Most devices to use; all if not given."""

    # What a `Run` asks for besides: a benchmark starts anew, and shares no batch among devices.
    resume: ClassVar[bool] = False
    batch_devices: ClassVar[int] = 1

    def __post_init__(self):
        for name in self.chosen:
            if name not in CASES:
                raise InputError(f"--cases: expected some of {', '.join(CASES)}, found {name or 'an empty name'}")
        for name in ("batches", "members", "pipeline_seeds"):
            flag, values = f"--{name.replace('_', '-')}", getattr(self, name)
            if not values or min(values) < 1:
                found = " ".join(map(str, values)) or "none"
                raise InputError(f"{flag}: expected numbers of 1 or more, found {found}")
        expect_at_least(self, repeats=1, scenario=1, seed=0)
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise InputError(f"--data-dir: expected a folder, found none at {self.data_dir}")
        if self.dtypes == ():
            raise InputError("--dtypes: expected float32, bfloat16 or both, found none")

    @property
    def chosen(self) -> list[str]:
        """Names of the cases to run."""
        if self.cases:
            return self.cases.split(",")
        return list(QUICK) if self.quick else [name for name in CASES if name not in LONG]


def run(config: Benchmark) -> None:
    """Run the benchmark; leaves its folder with results, report and figures."""
    config = _quick(config) if config.quick else config
    baseline = _read_baseline(config) if config.against else None
    folder = Run("benchmark", config)
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is timed, too
    dtypes = config.dtypes or (("float32",) if jax.default_backend() == "cpu" else ("float32", "bfloat16"))
    with folder.phase("rates"):
        rates = _device_rates(config, dtypes)
    bench = Bench(
        points=points(config.batches, config.members, dtypes, folder.devices),
        dtypes=dtypes,
        repeats=config.repeats,
        rates=rates["matmul_flops_per_second"],
        seed=config.seed,
        quick=config.quick,
        folder=config.data_dir,
        scenario=config.scenario,
        pipeline_seeds=config.pipeline_seeds,
    )
    throughput = {}
    for name in config.chosen:
        with folder.phase(name):
            throughput[name] = list(CASES[name](bench))
        folder.say(f"{name:<28} {folder.seconds['phases'][name]:6.1f} s")
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")  # of all cases; a CPU does not tell
    parts = {"rates": rates, "device_peak_bytes": peak, "throughput": throughput}
    if baseline:
        parts["against"] = {"file": config.against, **baseline, "ratios": ratios(throughput, baseline)}
    folder.finish(environment={**environment(), "cores": _cores()}, **parts)
    report_benchmark.write(folder.folder)
    for table in report_benchmark.console_tables(folder.folder):
        folder.say(table)
    folder.say(report_benchmark.LEGEND)
    folder.say(f"report and figures in {folder.folder}, {folder.seconds['total']:.0f} s in all")


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
    """With the first point alone."""
    first = points(config.batches, config.members, ("float32",), 1)[0]
    return dataclasses.replace(config, batches=(first.batch,), members=(first.members,), devices=1)


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
    if not isinstance(found, dict) or not isinstance(found.get("batch"), int):
        raise InputError(f'{path}: expected an object with a whole number "batch", found {str(found)[:80]}')
    milliseconds = {}
    for case, entry in found.items():
        if isinstance(entry, dict):
            value = entry.get("milliseconds_per_step")
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InputError(f"{path}: expected {case}.milliseconds_per_step of more than 0, found {value}")
            milliseconds[case] = value
    if not milliseconds:
        raise InputError(f"{path}: expected cases with milliseconds_per_step, found none")
    if found["batch"] not in config.batches:
        raise InputError(f"{path}: expected a batch of {' or '.join(map(str, config.batches))}, found {found['batch']}")
    about = {name: found.get(name) for name in ("torch", "threads")}
    return {**about, "batch": found["batch"], "milliseconds": milliseconds}


def ratios(throughput: dict[str, list[Row]], baseline: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """How many times as long PyTorch takes for a step as we do for that of one member, by case, at its batch size."""
    found = {}
    for case, milliseconds in baseline["milliseconds"].items():
        rows = [row for row in throughput.get(case, []) if row["batch"] == baseline["batch"]]
        if rows:
            found[case] = [
                {name: row[name] for name in ("batch", "members", "devices", "dtype")}
                | {"ratio": milliseconds * row["members"] / row["milliseconds"]}
                for row in rows
            ]
    return found


def _cores() -> int | None:
    """CPU cores that this process may use, for instance one under `taskset -c 0`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":
    main("benchmark", Benchmark, run)
