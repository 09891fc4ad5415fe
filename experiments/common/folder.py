"""What is in the folder of a run: which files are a run's own, whose turn it is there, and how they are written."""

import contextlib
import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beamkd.base import InputError
from beamkd.training import FitState
from beamkd.training.checkpoints import remove
from beamkd.training.trainer import epochs_done

try:
    import fcntl
except ImportError:  # Windows: folders are not locked there
    fcntl = None

MARKER = ".beamkd"
"""Empty file that tells the folder of a run from others; locked while a run is going on."""

CONFIG, RESULTS, METRICS = "config.json", "results.json", "metrics.jsonl"

SECONDS = "seconds.json"
"""What the processes of a run took so far, one after another."""

CHECKPOINTS = "checkpoints"
"""Folder within a run's."""

NETWORKS = "networks"
"""Likewise, with the networks that the run leaves."""

EXPORTS = "exports"
"""Likewise, with the files that it makes of networks."""

ROADS = "roads"
"""Likewise, with a run for each road of a study on several."""

DRIVES = "drives"
"""Likewise, in which drives are kept that are streamed."""

WATCH = "watch.npz"
"""Test drives that `python -m beamkd.report RUN --watch` plays."""

WRITTEN = (
    *(CONFIG, RESULTS, METRICS, SECONDS, CHECKPOINTS, NETWORKS, EXPORTS, ROADS),
    *("config.writing", "results.writing", "seconds.writing"),
    *("report.md", "report.tex", "report.html", "figures.npz", WATCH, "watch.html"),
    *("accuracy.png", "generator.png", "sequences.png", "drive.png"),
    *("differences.png", "sweeps.png", "scaling.png", "roofline.png"),
    *("savings.png", "fusion.png", "failing.png", "frontier.png", "membership.png"),
    *("bytes.png", "rounds.png", "nodes.png", "map.png", "partitions.png", "faults.png"),
)
"""All that experiments write, besides drives. The next run in the folder removes it, first the configuration."""


def open_folder(folder: Path, config: dict[str, Any], resume: bool) -> dict[str, Any]:
    """Make `folder` ready for a run of `config`: new, emptied of an earlier run, or as it was left; and lock it.

    Returns:
      What was kept in `SECONDS`; empty if nothing was.

    Raises:
      InputError: the folder is none of a run, or of another one; it is in use, or cannot be written. It is left as it
        was.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out: expected a folder, found the file {folder}")
        if resume:
            _check_same(folder / CONFIG, config)
        else:
            _check_own(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _lock(folder)
        if not resume:
            _empty(folder)
            write_json(folder / CONFIG, config)
        return read_json(folder / SECONDS) or {}
    except OSError as error:
        raise InputError(f"--out: expected a folder to write to, found {folder}: {error.strerror}") from error


def _check_own(folder: Path) -> None:
    """No file is removed but from the folder of a run."""
    if folder.exists() and not (folder / MARKER).is_file() and any(folder.iterdir()):
        raise InputError(
            f"--out: expected a new or empty folder or that of an earlier run, found other files and no {MARKER} "
            f"in {folder}"
        )


def _check_same(path: Path, config: dict[str, Any]) -> None:
    found = read_json(path)
    if found is None:
        raise InputError(f"--resume: expected a run to go on with, found no {path}")
    expected, found = _flat(plain(config)), _flat(found)
    for key in [*expected, *found]:
        if expected.get(key) != found.get(key):
            now, then = expected.get(key), found.get(key)
            raise InputError(f"--resume: expected the flags of the run in {path.parent}, {key} {then}, found {now}")


def _lock(folder: Path) -> None:
    """Keep other processes' runs out of the folder until this process ends, however it does.

    The file stays open, for that holds the lock. It is one of the process, not of the file: a later run in the same
    process may have the folder, and processes that were forked do not hold it.
    """
    file = os.open(folder / MARKER, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(file)
        raise InputError(f"--out: expected a folder that no other run is using, found one in {folder}") from None
    except OSError:  # a disk without locks
        os.close(file)


def _empty(folder: Path) -> None:
    for name in WRITTEN:
        remove(folder / name)
    for path in folder.iterdir():
        if re.fullmatch(rf"{DRIVES}(\.\d+)?(\.writing)?", path.name):
            remove(path)


def write_json(path: Path, contents: Any) -> None:
    """Write a whole JSON file, or none of it."""
    spare = path.with_suffix(".writing")
    spare.write_text(json.dumps(plain(contents), indent=1) + "\n")
    os.replace(spare, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """A file by `write_json`, or None if there is none.

    Raises:
      InputError: it is damaged.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path}: expected JSON of a run, found {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected JSON of a run, found a {type(found).__name__}")
    return found


def write_lines(folder: Path, phase: str, state: FitState, done: int | None) -> None:
    """Log a line for each epoch since `done`; values have one entry a member, null where it had stopped.

    None: from the start. Whatever was there of the phase, and half a line at the end, then goes.
    """
    if done is None:
        _forget_lines(folder / METRICS, phase)
    history = jax.tree.map(np.asarray, state.history)
    with open(folder / METRICS, "a") as file:
        for epoch in range(done or 0, epochs_done(state)):
            values = {name: plain(value[:, epoch]) for name, value in history.items()}
            file.write(json.dumps({"phase": phase, "epoch": epoch + 1, **values}) + "\n")


def _forget_lines(path: Path, phase: str) -> None:
    kept = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        with contextlib.suppress(ValueError):
            if json.loads(line)["phase"] != phase:
                kept.append(line)
    path.write_text("".join(kept))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as a flat one with dotted names."""
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def plain(value: Any) -> Any:
    """Dataclasses, arrays and paths as what JSON knows; NaN, which it does not know, as null."""
    if dataclasses.is_dataclass(value):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
