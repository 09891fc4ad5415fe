"""Flags that all experiments share, how they are parsed, and the data that they name."""

import contextlib
import dataclasses
import functools
import gc
import io
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import tyro

from beamkd.base import SCAN_RAYS, Drives, InputError, expect_at_least
from beamkd.data import (
    open_drives,
    open_tfds,
    origin,
    read_deepsense,
    read_tfds,
    store_drives,
    tfds_pieces,
    with_masks,
)
from beamkd.sim import Street, simulate, simulate_chunks
from beamkd.training import distributed, is_primary
from beamkd.training.hosts import CLUSTER

SIMULATED_DRIVES = 83
"""As many as Scenario 8 has."""

RESIDENT_BYTES = 2**30
"""Of simulated frames."""

RESIDENT_FRAMES = 240_000
"""Simulated frames: about 160,000 windows, for which 'kd' keeps 460 MB of a teacher's answers a seed."""

LEAST_BEAMS = 5
"""The metrics look at the five best beams."""

SENSORS = ("lidar", "radar", "doppler", "camera", "gps")
"""That networks can see."""

COLLECT_AFTER = 50_000
"""New objects after which Python looks for garbage. Tracing makes many that stay: at Python's own 700 it spends a tenth
of the time to the first training step on looking."""


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of every experiment."""

    source: Literal["sim", "deepsense", "tfds"] = "sim"
    """Where the data come from: the built-in street, a DeepSense 6G folder, or a prepared TFDS dataset of ours."""
    data_dir: tuple[Path, ...] = ()
    """The folder, for `--source deepsense`, or several, whose drives are dealt out by folder and put together; for
    `--source tfds` that of a version, or TFDS's own with one dataset."""
    scenario: int | None = None
    """Number of the DeepSense scenario. If not given: of the only one in a folder, or 8 if that is one of several."""
    sensors: tuple[str, ...] = ("lidar",)
    """What networks see: lidar, radar (range-angle maps), doppler (its Doppler-angle maps), camera (motion masks), gps;
    one or several, with spaces or commas between."""
    mask_size: int = 96
    """Rows and columns of motion masks, to which the camera's frames are shrunk; published networks take 224."""
    lidar: Literal["measured", "raycast"] = "measured"
    """Scans of the folder, or scans simulated along its positions, without noise."""
    simulated: tuple[str, ...] = ()
    """Sensors that are simulated along the folder's positions, with noise, in place of its own files: those of
    `--sensors`. Others change nothing."""
    skip_bad: bool = False
    """Drop frames whose files are bad, and the windows over them, instead of stopping."""
    drives: int = SIMULATED_DRIVES
    """Drives to simulate, for `--source sim`."""
    resident: int | None = None
    """Up to this many simulated drives, or as many frames of a TFDS dataset as these may have, live on the device; more
    are kept in the run's folder and streamed. As many as take 1 GB if not given, and 240,000 frames at most."""
    street: Street = Street()
    """The simulated street."""
    split: Literal["random", "inorder"] = "random"
    """How drives are dealt out: 60/15/25 % at random, or 70/15/15 % in the order of recording."""
    seeds: int = 3
    """How many seeds: each draws split, weights, batches and noise."""
    seed: int = 0
    """The first seed. The simulated street is drawn from it, too."""
    out: Path | None = None
    """Folder of the run; runs/NAME if not given."""
    keep_seeds: Literal["first", "all"] = "first"
    """Whose networks the run leaves in its folder, under networks/."""
    quick: bool = False
    """A small run of under a minute, for trying."""
    devices: int | None = None
    """Devices to use, of all processes together; all if not given."""
    batch_devices: int = 1
    """Devices that share each batch; the others take further seeds."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, on one host or many; the same for all. Or 'auto', which finds it
    and the next two flags in the environment of a cluster (Slurm, Open MPI, TPU pods, Kubernetes)."""
    num_processes: int | None = None
    """How many processes there are, with `--coordinator`."""
    process_id: int | None = None
    """Number of this process, from 0, with `--coordinator`. The first one writes."""
    resume: bool = False
    """Go on with the run in `--out` where it was stopped."""

    def __post_init__(self):
        _expect_finite(self)
        if self.scenario is not None:
            expect_at_least(self, scenario=1)
        expect_at_least(self, drives=1, seeds=1, seed=0, batch_devices=1)
        if self.resident is not None:
            expect_at_least(self, resident=0)
        _check_processes(self.coordinator, self.num_processes, self.process_id)
        if self.seed + self.seeds > 2**31:
            raise InputError(f"--seed: expected less than {2**31 - self.seeds}, found {self.seed}")
        if self.street.beams < LEAST_BEAMS:
            raise InputError(f"--street.beams: expected {LEAST_BEAMS} or more, found {self.street.beams}")
        for name in ("sensors", "simulated"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if not self.sensors:
            raise InputError(f"--sensors: expected names out of {', '.join(SENSORS)}, found none")
        found = " ".join(map(str, self.data_dir))
        if self.source != "sim" and not self.data_dir:
            raise InputError(f"--data-dir: expected a folder with --source {self.source}, found none")
        if self.source == "sim" and self.data_dir:
            raise InputError(f"--data-dir: expected none with --source sim, found {found}")
        if self.source == "tfds" and len(self.data_dir) > 1:
            raise InputError(f"--data-dir: expected one folder with --source tfds, found {found}")
        if self.source != "deepsense" and self.lidar != "measured":
            raise InputError(f"--lidar: expected it with --source deepsense only, found {self.lidar}")
        if self.source != "deepsense" and self.simulated:
            raise InputError(f"--simulated: expected it with --source deepsense only, found {' '.join(self.simulated)}")


def _names(flag: str, found: tuple[str, ...]) -> tuple[str, ...]:
    """Sensors of a flag, each once; commas stand between them, too."""
    names = tuple(dict.fromkeys(name for part in found for name in part.split(",") if name))
    if not set(names) <= set(SENSORS):
        raise InputError(f"--{flag}: expected names out of {', '.join(SENSORS)}, found {' '.join(found)}")
    return names


def _expect_finite(value: Any, path: str = "") -> None:
    """Raise `InputError` where a configuration, or what is nested in it, has an infinity or NaN for a number."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _expect_finite(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, tuple):
        for item in value:
            _expect_finite(item, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"--{path[1:].replace('_', '-')}: expected a finite number, found {value}")


def _check_processes(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Devices are counted later: they are those of all processes, which first have to find one another."""
    if coordinator in (None, CLUSTER):
        for flag, found in {"--num-processes": processes, "--process-id": process}.items():
            if found is not None:
                raise InputError(f"{flag}: expected it with --coordinator HOST:PORT only, found {found}")
        return
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(f"--coordinator: expected HOST:PORT or {CLUSTER}, found {coordinator}")
    if processes is None or processes < 1:
        raise InputError(f"--num-processes: expected 1 or more with --coordinator, found {processes}")
    if process is None or not 0 <= process < processes:
        raise InputError(f"--process-id: expected 0 to {processes - 1} with --coordinator, found {process}")


Config = TypeVar("Config")


def main(
    name: str,
    config_type: type[Config],
    run: Callable[[Config], Any],
    arguments: list[str] | None = None,
    defaults: Callable[[list[str]], Config] | None = None,
) -> None:
    """Parse the flags and run an experiment; bad input is one line on standard error and exit status 2.

    Args:
      name: of the experiment's module.
      config_type: its flags.
      run: the experiment.
      arguments: those of the command line if not given.
      defaults: defaults(arguments) -> the flags that are not given; those of `config_type` if None.
    """
    prepare()
    try:
        config = parsed(name, config_type, arguments, defaults)
        processes = [getattr(config, flag, None) for flag in ("coordinator", "num_processes", "process_id")]
        with distributed(name, *processes):
            run(config)
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"{name}: interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None


def prepare() -> None:
    """Set up logging and JAX as all experiments want them."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of layouts that we do not use
    _cache_compilation()
    _keep_cpu()
    _multiply_in_full()
    _use_all_cores()
    gc.set_threshold(COLLECT_AFTER)


def parsed(
    name: str,
    config_type: type[Config],
    arguments: list[str] | None,
    defaults: Callable[[list[str]], Config] | None = None,
) -> Config:
    """Flags as `config_type`; tyro's boxes around errors become one line. As `main` has its arguments."""
    said = io.StringIO()
    given = sys.argv[1:] if arguments is None else arguments
    options = {} if defaults is None else {"default": defaults(given)}
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(config_type, prog=f"python -m experiments.{name}", args=given, **options)
    except SystemExit as stop:
        if stop.code != 2:
            raise
        lines = [line.strip("│ ") for line in said.getvalue().splitlines()[1:]]
        message = " ".join(lines[: next((i for i, line in enumerate(lines) if line.startswith("──")), None)])
        raise InputError(f"{message.strip('╰─╯ ')} (flags: --help)") from None


def _cache_compilation() -> None:
    """Keep compiled programs between runs, the quick ones too, where the user says or in a place of our own."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "beamkd" / "xla"))


def _keep_cpu() -> None:
    """Let the CPU, on which networks' operations are counted, be there behind the platforms that the user has named."""
    platforms = jax.config.jax_platforms
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")


def _multiply_in_full() -> None:
    """Let float32 be float32 in products, too, which accelerators otherwise round, unless the user has set that up."""
    if "JAX_DEFAULT_MATMUL_PRECISION" not in os.environ:
        jax.config.update("jax_default_matmul_precision", "highest")


def _use_all_cores() -> None:
    """Let each core of a CPU be a device, which trains seeds of its own, unless the user has set that up."""
    chosen = "JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ.get("XLA_FLAGS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not chosen:
        with contextlib.suppress(RuntimeError):  # JAX has started already
            jax.config.update("jax_num_cpu_devices", cores)


def load_drives(config: Flags, folder: Path) -> Drives:
    """The data that the flags name; large ones are kept in `folder`, where a resumed run finds them."""
    seen = functools.partial(with_masks, size=config.mask_size) if "camera" in config.sensors else lambda drives: drives
    if config.source == "deepsense":
        options = {"lidar": config.lidar, "simulated": config.simulated, "skip_bad": config.skip_bad}
        options |= {"sensors": config.sensors, "progress": is_primary()}
        return seen(read_deepsense(config.data_dir, config.scenario, **options))
    if config.source == "tfds":
        prepared = open_tfds(*config.data_dir)
        (beams,) = prepared.power.shape
        if beams < LEAST_BEAMS:
            raise InputError(f"--data-dir: expected {LEAST_BEAMS} beams or more, found {beams}")
        if prepared.frames <= most_resident(config) * config.street.max_frames:
            return seen(read_tfds(*config.data_dir, config.sensors))
        return _kept(config, folder, lambda: map(seen, tfds_pieces(prepared, config.sensors)))
    asked = jax.random.key(config.seed), config.street, config.drives, config.sensors, own_devices(config)
    if config.drives <= most_resident(config):
        return seen(simulate(*asked))
    return _kept(config, folder, lambda: map(seen, simulate_chunks(*asked)))


def data_origin(config: Flags) -> str | None:
    """What a folder says of how its data came about; None if there is none, or it says nothing."""
    if config.source == "deepsense":
        return origin(config.data_dir, config.scenario)
    return open_tfds(*config.data_dir).origin if config.source == "tfds" else None


def _kept(config: Flags, folder: Path, pieces: Callable[[], Iterator[Drives]]) -> Drives:
    """Drives that are streamed from `folder`."""
    if config.resume and folder.exists():
        return open_drives(folder)
    return store_drives(folder, pieces())


def most_resident(config: Flags) -> int:
    """How many simulated drives live on the device."""
    if config.resident is not None:
        return config.resident
    sizes = {"lidar": 4 * SCAN_RAYS, "radar": 4 * 256 * 64, "doppler": 4 * 128 * 64, "camera": 224**2, "gps": 8}
    frame = sum(sizes[name] for name in config.sensors) + 4 * config.street.beams
    return min(RESIDENT_FRAMES, RESIDENT_BYTES // frame) // config.street.max_frames


def own_devices(config: Flags) -> int | None:
    """How many of its own devices each process uses; all if None."""
    return None if config.devices is None else config.devices // jax.process_count()
