"""A run of an experiment: its devices and clock, and training that goes on where its folder says that it was left."""

import contextlib
import dataclasses
import functools
import os
import platform
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
    BATCH,
    FitState,
    Task,
    Trainer,
    checkpoints,
    fast_options,
    from_primary,
    is_primary,
    map_members,
)
from beamkd.training.hosts import agreed
from beamkd.training.trainer import epochs_done
from experiments.common.flags import Flags
from experiments.common.folder import (
    CHECKPOINTS,
    DRIVES,
    RESULTS,
    SECONDS,
    open_folder,
    plain,
    write_json,
    write_lines,
)

FREE_TO_CHANGE = (
    *("out", "resume", "keep_seeds", "devices", "batch_devices", "resident"),
    *("coordinator", "num_processes", "process_id", "superlink", "wait"),
)
"""Flags that may differ when a run is resumed: they do not change its results."""

SILENCE = 20
"""Seconds between lines about one phase where there is no terminal."""

COMPILATION = "/jax/core/compile/backend_compile_duration"

GIT_SECONDS = 5
"""If git has not answered after this time, the commit is not recorded."""


class Run:
    """An experiment's folder, devices and clock. Of several processes only the first touches the folder and prints.

    `soon` is for one that trains many networks a few steps each (`fast_options`).

    Attributes:
      folder: where everything goes.
      devices: number of devices to use, of all processes.
      batch_devices: how many of them share a batch.
      axis_name: the axis of these; None if there is one.
      resume: whether to go on where the run in the folder was left.
      seconds: 'total', 'compile', and 'phases' by name. A resumed run goes on counting from the last checkpoint, or end
        of a phase, of the run before.
      environment: see `environment`; as the run began, for code may change meanwhile.
    """

    def __init__(self, name: str, config: Flags, soon: bool = False):
        self.name = name
        self.folder = config.out or Path("runs") / name
        self._soon = soon
        self.devices, self.batch_devices = _count_devices(config), config.batch_devices
        self.config = {key: value for key, value in plain(config).items() if key not in FREE_TO_CHANGE}
        self.resume = config.resume
        self.environment = environment() | {"devices": self.devices, "batch_devices": self.batch_devices}
        self.axis_name = BATCH if self.batch_devices > 1 else None
        self._trainer = Trainer(
            self.over_members,
            self.folder / CHECKPOINTS,
            [name, self.config],
            config.resume,
            axis_name=self.axis_name,
        )
        self._counted = time.perf_counter()
        self._console = Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = 120  # room for tables: a file has no width of its own
        earlier = from_primary(lambda: open_folder(self.folder, self.config, config.resume))
        self.seconds = {"total": 0.0, "compile": 0.0, "phases": {}} | earlier
        if not config.resume:
            agreed(lambda: checkpoints.remove(self.drives))  # each process on a disk of its own, perhaps
        jax.monitoring.register_event_duration_secs_listener(self._count_compilation)

    def _count_compilation(self, event: str, seconds: float, **_) -> None:
        if event == COMPILATION:
            self.seconds["compile"] += seconds

    def say(self, text: Any) -> None:
        """Print a line, or anything that rich can show."""
        if is_primary():
            self._console.print(text)

    def over_members(self, function: Callable, axes: Sequence[Any]) -> Callable:
        """`map_members` over the devices of this run."""
        return map_members(function, axes, self.devices, self.batch_devices, fast_options(soon=self._soon))

    @property
    def drives(self) -> Path:
        """Where drives are kept that are streamed; several processes may share a disk."""
        return self.folder / (DRIVES if is_primary() else f"{DRIVES}.{jax.process_index()}")

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done within; not within another phase."""
        self._count()
        yield
        self._count(name)

    def _count(self, phase: str | None = None) -> None:
        """Add the time since the last call to what the run took, and the phase; keep it for a run that resumes this."""
        now = time.perf_counter()
        spent, self._counted = now - self._counted, now
        self.seconds["total"] += spent
        if phase:
            self.seconds["phases"][phase] = self.seconds["phases"].get(phase, 0.0) + spent
        if is_primary():
            write_json(self.folder / SECONDS, self.seconds)

    def train(
        self,
        phase: str,
        task: Task,
        keys: Any,
        params: Any,
        data: Any,
        train: Rows,
        val: Rows | None = None,
        axes: Any = None,
    ) -> FitState:
        """`Trainer.train` as a phase of this run: timed, logged and shown. So a run stands in a `Trainer`'s place."""
        with self.phase(phase), self._bar(phase, task.config.epochs) as show:
            done = None

            def progress(_: str, state: FitState) -> None:
                nonlocal done
                from_primary(functools.partial(write_lines, self.folder, phase, state, done))
                self._count(phase)
                done = epochs_done(state)
                if done:
                    show(state)

            trainer = dataclasses.replace(self._trainer, progress=progress)
            state = trainer.train(phase, task, keys, params, data, train, val, axes)
        self.say(f"{phase:<10} {_summary(state):<60} {self.seconds['phases'][phase]:6.1f} s")
        return state

    @contextlib.contextmanager
    def _bar(self, phase: str, epochs: int) -> Iterator[Callable[[FitState], None]]:
        """What shows how far a phase is: a progress bar on a terminal, now and then a line elsewhere."""
        if not (self._console.is_terminal and is_primary()):
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
            yield lambda state: bar.update(task, completed=epochs_done(state), now=_summary(state))

    def finish(self, **parts: Any) -> None:
        """Write results.json; `parts` may hold arrays of this process only, and more of 'environment'."""
        self._count()
        known = parts.pop("environment", {}) | self.environment
        head = {"experiment": self.name, "config": self.config, "environment": known}
        if is_primary():
            write_json(self.folder / RESULTS, {**head, **parts, "seconds": self.seconds})


def environment() -> dict[str, Any]:
    """What the results may depend on besides the configuration."""
    commit, dirty = _commit(Path(__file__))
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "flax": flax.__version__,
        "backend": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "commit": commit,
        "dirty": dirty,
    }


def _commit(file: Path) -> tuple[str | None, bool | None]:
    """Commit that `file` is of, and whether files of its repository were changed since; None where no one can tell.

    A repository that does not have the file, such as one around the environment that it is installed in, has no say.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str | None:
        command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *words]
        quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": GIT_SECONDS, "check": False}
        done = subprocess.run(command, cwd=file.parent, env=variables, **quiet)
        return None if done.returncode else done.stdout.decode(errors="replace").strip()

    try:
        if git("cat-file", "-e", f"HEAD:./{file.name}") is None:
            return None, None
        commit, changes = git("rev-parse", "--verify", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, None if changes is None else bool(changes)


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


def _teller(say: Callable[[str], None], phase: str) -> Callable[[FitState], None]:
    """Says how far a phase is, every `SILENCE` seconds at most."""
    told = time.perf_counter()

    def tell(state: FitState) -> None:
        nonlocal told
        if time.perf_counter() - told > SILENCE:
            told = time.perf_counter()
            say(f"{phase:<10} {_summary(state)} ...")

    return tell


def _summary(state: FitState) -> str:
    """How far training is and how it goes, mean over members."""
    epochs = np.asarray(state.epoch)
    rows = np.arange(len(epochs)), np.maximum(epochs, 1) - 1
    loss, val = (float(np.mean(np.asarray(state.history[name])[rows])) for name in ("loss", "val"))
    least, most = epochs.min(), epochs.max()
    after = f"{most}" if least == most else f"{least}-{most}"
    return f"epoch {after}, loss {loss:.4f}" + ("" if np.isnan(val) else f", validation {val:.4f}")
