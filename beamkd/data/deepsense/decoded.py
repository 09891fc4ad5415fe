"""Drives that took long to decode, kept on disk by a digest of all that made them."""

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import beamkd.base
from beamkd.base import Drives, InputError
from beamkd.data.stored import open_drives, store_drives

try:
    import fcntl
except ImportError:  # Windows: there two processes may decode the same at once
    fcntl = None

LARGEST_CACHE = 16 * 2**30
"""Bytes that are kept, the latest drives whatever they take; those used longest ago go first."""

CODE = ("base.py", "data/geodesy.py", "data/deepsense/*.py", "sim/*.py")
"""What decodes, derives and simulates: where this changes, drives are made anew."""

PACKAGES = ("jax", "numpy", "pillow")
"""Likewise."""


def digest(request: Any, contents: Sequence[Path], named: Sequence[Sequence[str]]) -> str:
    """A digest of what makes drives, the code among it.

    Args:
      request: what is asked for; its `repr` counts.
      contents: files whose contents count.
      named: files of which sizes and times of the last change count.
    """
    total = hashlib.sha256()
    package = Path(beamkd.base.__file__).parent
    for path in (*sorted(path for pattern in CODE for path in package.glob(pattern)), *contents):
        total.update(hashlib.sha256(path.read_bytes()).digest())
    versions = [importlib.metadata.version(name) for name in PACKAGES]
    total.update(repr((request, versions, jax.default_backend())).encode())
    for paths in named:
        total.update(np.array([_state(path) for path in paths], np.int64).tobytes())
    return total.hexdigest()


def _state(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (-1, -1)
    return status.st_size, status.st_mtime_ns


def keep_decoded(
    key: str, sensors: Sequence[str], pieces: Callable[[list[str]], Iterator[Drives]]
) -> tuple[Drives, list[str]]:
    """Drives kept under a key, made first where they are not there whole.

    One of several processes makes them, and the others wait.

    Args:
      key: by `digest`.
      sensors: names of those that the drives have.
      pieces: pieces(told) -> drives, a few at a time; adds lines on them to a list.

    Returns:
      The drives, memory-mapped, and the lines.

    Raises:
      InputError: of the pieces, or the folder cannot be written.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beamkd" / "decoded"
    folder, lines = home / key, home / f"{key}.txt"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f"{key[0]}.lock"):
            try:
                drives, told = open_drives(folder), lines.read_text().splitlines()
                whole = set(drives.sensors) == set(sensors)
            except (InputError, OSError, UnicodeDecodeError):
                whole = False
            if not whole:
                told = []
                drives = store_drives(folder, _noted(pieces, told, lines))
                with contextlib.suppress(OSError):  # another process removes the same
                    _forget(home, folder)
            os.utime(folder)
    except OSError as error:
        said = "cannot be written; XDG_CACHE_HOME in the environment may name another place"
        raise InputError(f"{home}: {said}: {error.strerror}") from error
    return drives, told


def _noted(pieces: Callable[[list[str]], Iterator[Drives]], told: list[str], lines: Path) -> Iterator[Drives]:
    yield from pieces(told)
    lines.write_text("\n".join(told))


@contextlib.contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[None]:
    """A lock on a file, which ends with the process however that does; none on a disk without locks.

    Raises:
      BlockingIOError: another one has it, and `wait` is false.
    """
    with open(path, "a") as file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield


def _forget(home: Path, kept: Path) -> None:
    """Remove drives until the rest is small enough, and what processes left that ended midway."""
    folders = sorted((path for path in home.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in folders}
    for path in folders:
        if path == kept or not (path.suffix == ".writing" or sum(sizes.values()) > LARGEST_CACHE):
            continue
        ours = path.name[0] == kept.name[0]  # the lock, which we have
        with contextlib.suppress(BlockingIOError):
            with contextlib.nullcontext() if ours else _locked(home / f"{path.name[0]}.lock", wait=False):
                shutil.rmtree(path)
                path.with_suffix(".txt").unlink(missing_ok=True)
            sizes.pop(path)
