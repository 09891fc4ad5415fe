"""The folder of a run: configuration, checkpoints, a line an epoch, results; and training that writes them."""

import contextlib
import dataclasses
import functools
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from beamkd.base import InputError, Rows
from beamkd.training import (
    FitState,
    Stream,
    Task,
    advance,
    checkpoints,
    epoch_of_stream,
    fast_options,
    fetch,
    from_first,
    is_first,
    map_members,
    start,
    start_stream,
    stopped,
)
from experiments.flags import Flags

FREE_TO_CHANGE = (
    *("out", "resume", "devices", "batch_devices", "resident"),
    *("coordinator", "num_processes", "process_id"),
)
"""Flags that may differ when a run is resumed: they do not change its results."""

DRIVES = "drives"
"""Folder within a run's in which drives are kept that are streamed."""

CHUNKS = 20
"""A phase comes up for air this often, to show progress and to write a checkpoint."""

SILENCE = 20
"""Seconds between lines about one phase where there is no terminal."""

Step = Callable[[FitState], FitState]
"""Some epochs of all members."""
CHECKPOINTS = "checkpoints"
"""Where they are in the folder of a run."""

COMPILATION = "/jax/core/compile/backend_compile_duration"


class Run:
    """An experiment's folder, devices and clock. Of several processes only the first touches the folder and prints.

    Attributes:
      folder: where everything goes.
      devices: number of devices to use, of all processes.
      batch_devices: how many of them share a batch.
      seconds: in all, of compilation, and of each phase by name.
    """

    def __init__(self, name: str, config: Flags):
        self.name = name
        self.folder = config.out or Path("runs") / name
        self.devices, self.batch_devices = _count_devices(config), config.batch_devices
        self.config = {key: value for key, value in _plain(config).items() if key not in FREE_TO_CHANGE}
        self.seconds = {"total": 0.0, "compile": 0.0, "phases": {}}
        self._began = time.perf_counter()
        self._console = Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = 120  # room for tables: a file has no width of its own
        from_first(lambda: _open_folder(self.folder, self.config, config.resume))
        jax.monitoring.register_event_duration_secs_listener(self._count_compilation)

    def _count_compilation(self, event: str, seconds: float, **_) -> None:
        if event == COMPILATION:
            self.seconds["compile"] += seconds

    def say(self, text: Any) -> None:
        """Print a line, or anything that rich can show."""
        if is_first():
            self._console.print(text)

    def map(self, function: Callable, axes: Sequence[Any]) -> Callable:
        """`map_members` over the devices of this run."""
        return map_members(function, axes, self.devices, self.batch_devices, fast_options())

    @property
    def drives(self) -> Path:
        """Where drives are kept that are streamed; several processes may share a disk."""
        return self.folder / (DRIVES if is_first() else f"{DRIVES}.{jax.process_index()}")

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done within."""
        began = time.perf_counter()
        yield
        phases = self.seconds["phases"]
        phases[name] = phases.get(name, 0.0) + time.perf_counter() - began

    def train(
        self,
        phase: str,
        task: Task,
        keys: Any,
        params: Any,
        data: Any,
        axes: Any,
        train: Rows,
        val: Rows | None = None,
    ) -> FitState:
        """Train all members of a phase, from its last checkpoint if there is one.

        Args:
          phase: its name.
          task: what and how.
          keys: [members] keys.
          params: initial weights, [members, ...].
          data: what `task.take` takes, or a stream of it.
          axes: of data on the device: 0 where `data` has an axis of members, None where they share it.
          train: the rows to train on, [members, N] or, of data on the device, shared [N].
          val: the rows to choose the epoch by, likewise; or None.

        Returns:
          The end of training, [members, ...], NumPy's arrays.
        """
        epochs = task.config.epochs
        with self.phase(phase), self._bar(phase, epochs) as show:
            if isinstance(data, Stream):
                state, step = self._streamed(task, keys, params, data, train, val)
            else:
                state, step = self._resident(task, keys, params, data, axes, train, val)
            state = from_first(functools.partial(_reopen, self.folder, phase, fetch(state)))
            while not stopped(task.config, state).all():
                done = _epochs_done(state)
                state = fetch(step(state))
                _check_finite(phase, state)
                if is_first():
                    checkpoints.save(self.folder / CHECKPOINTS, phase, state)
                    _append_lines(self.folder, phase, state, done)
                show(state)
        self.say(f"{phase:<10} {_summary(state):<60} {self.seconds['phases'][phase]:6.1f} s")
        return state

    def _resident(
        self, task: Task, keys: Any, params: Any, data: Any, axes: Any, train: Rows, val: Rows | None
    ) -> tuple[FitState, Step]:
        """The first state of a training on data that live on the device, and a step of some epochs."""
        rows = 0 if train.index.ndim == 2 else None
        begin = self.map(functools.partial(start, task), (0, axes, rows))
        step = self.map(functools.partial(advance, task), (0, 0, axes, rows, rows, None))
        stride = -(-task.config.epochs // CHUNKS)
        first = begin(params, data, train)
        return first, lambda state: step(state, keys, data, train, val, _epochs_done(state) + stride)

    def _streamed(
        self, task: Task, keys: Any, params: Any, stream: Stream, train: Rows, val: Rows | None
    ) -> tuple[FitState, Step]:
        """As `_resident`, with data on the host. A step is an epoch, for these are long."""
        step = epoch_of_stream(task, stream, self.map)
        return start_stream(task, params, stream, train), lambda state: step(state, keys, train, val)

    @contextlib.contextmanager
    def _bar(self, phase: str, epochs: int) -> Iterator[Callable[[FitState], None]]:
        """What shows how far a phase is: a progress bar on a terminal, now and then a line elsewhere."""
        if not (self._console.is_terminal and is_first()):
            yield _teller(self.say, phase)
            return
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TextColumn("{task.fields[now]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(phase, total=epochs, now="compiling")
            yield lambda state: bar.update(task, completed=_epochs_done(state), now=_summary(state))

    def finish(self, **parts: Any) -> None:
        """Write results.json; `parts` may hold arrays of this process only."""
        self.seconds["total"] = time.perf_counter() - self._began
        head = {"experiment": self.name, "config": self.config, "environment": environment()}
        if is_first():
            write_json(self.folder / "results.json", {**head, **parts, "seconds": self.seconds})


def environment() -> dict[str, Any]:
    """What the results may depend on besides the configuration."""
    here = Path(__file__).parent
    git = subprocess.run(
        ["git", "rev-parse", "--verify", "-q", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "flax": flax.__version__,
        "backend": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "commit": git.stdout.strip() or None,
    }


def write_json(path: Path, contents: Any) -> None:
    """Write a whole JSON file, or none of it."""
    spare = path.with_suffix(".writing")
    spare.write_text(json.dumps(_plain(contents), indent=1) + "\n")
    os.replace(spare, path)


def _count_devices(config: Flags) -> int:
    """How many devices to use; every process gives the same number, and every batch gets its own."""
    present, processes = jax.device_count(), jax.process_count()
    devices = present if config.devices is None else config.devices
    if not 1 <= devices <= present:
        raise InputError(f"--devices: expected 1 to {present}, found {devices}")
    if devices % processes:
        raise InputError(f"--devices: expected a multiple of the {processes} processes, found {devices}")
    if devices % config.batch_devices:
        raise InputError(f"--batch-devices: expected a divisor of the {devices} devices, found {config.batch_devices}")
    return devices


def _open_folder(folder: Path, config: dict[str, Any], resume: bool) -> None:
    """Make `folder` ready for a run of `config`: new, emptied of an earlier run, or as it was left."""
    kept = folder / "config.json"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: expected a folder, found the file {folder}")
    if resume:
        _check_same(kept, config)
        return
    if kept.exists():
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        for drives in folder.glob(f"{DRIVES}*"):
            shutil.rmtree(drives, ignore_errors=True)
        for name in ("metrics.jsonl", "results.json", "report.md", "figures.npz"):
            (folder / name).unlink(missing_ok=True)
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"--out: expected a new or empty folder or that of an earlier run, found other files in {folder}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(kept, config)


def _check_same(path: Path, config: dict[str, Any]) -> None:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"--resume: expected a run to go on with, found no {path}") from None
    except ValueError as error:
        raise InputError(f"{path}: expected the configuration of a run, found {error}") from None
    expected, found = _flat(_plain(config)), _flat(found)
    for key in [*expected, *found]:
        if expected.get(key) != found.get(key):
            now, then = expected.get(key), found.get(key)
            raise InputError(f"--resume: expected the flags of the run in {path.parent}, {key} {then}, found {now}")


def _reopen(folder: Path, phase: str, state: FitState) -> FitState:
    """The checkpoint of a phase, or else `state`; the log gets the checkpoint's history, whatever it had of it."""
    state = fetch(checkpoints.restore(folder / CHECKPOINTS, phase, state) or state)
    _forget_lines(folder, phase)
    _append_lines(folder, phase, state, 0)
    return state


def _append_lines(folder: Path, phase: str, state: FitState, done: int) -> None:
    """A line for each epoch since `done`; values have one entry a member, null where it had stopped."""
    history = jax.tree.map(np.asarray, state.history)
    with open(folder / "metrics.jsonl", "a") as file:
        for epoch in range(done, _epochs_done(state)):
            values = {name: _plain(value[:, epoch]) for name, value in history.items()}
            file.write(json.dumps({"phase": phase, "epoch": epoch + 1, **values}) + "\n")


def _forget_lines(folder: Path, phase: str) -> None:
    """Drop the lines of a phase, and half a line at the end."""
    path = folder / "metrics.jsonl"
    kept = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        with contextlib.suppress(ValueError):
            if json.loads(line)["phase"] != phase:
                kept.append(line)
    path.write_text("".join(kept))


def _check_finite(phase: str, state: FitState) -> None:
    losses = np.asarray(state.history["loss"])[np.arange(len(state.epoch)), np.asarray(state.epoch) - 1]
    if not np.isfinite(losses).all():
        member = np.flatnonzero(~np.isfinite(losses))[0]
        advice = "a smaller learning rate may help"
        raise InputError(
            f"{phase}: expected a finite loss, found {losses[member]} with seed number {member + 1}; {advice}"
        )


def _teller(say: Callable[[str], None], phase: str) -> Callable[[FitState], None]:
    """Says how far a phase is, every `SILENCE` seconds at most."""
    told = time.perf_counter()

    def tell(state: FitState) -> None:
        nonlocal told
        if time.perf_counter() - told > SILENCE:
            told = time.perf_counter()
            say(f"{phase:<10} {_summary(state)} ...")

    return tell


def _epochs_done(state: FitState) -> int:
    return int(np.max(state.epoch))


def _summary(state: FitState) -> str:
    """How far training is and how it goes, mean over members."""
    epochs = np.asarray(state.epoch)
    rows = np.arange(len(epochs)), np.maximum(epochs, 1) - 1
    loss, val = (float(np.mean(np.asarray(state.history[name])[rows])) for name in ("loss", "val"))
    least, most = epochs.min(), epochs.max()
    after = f"{most}" if least == most else f"{least}-{most}"
    return f"epoch {after}, loss {loss:.4f}" + ("" if np.isnan(val) else f", validation {val:.4f}")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as a flat one with dotted names."""
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _plain(value: Any) -> Any:
    """Dataclasses, arrays and paths as what JSON knows; NaN, which it does not know, as null."""
    if dataclasses.is_dataclass(value):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
