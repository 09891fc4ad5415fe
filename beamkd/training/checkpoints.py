"""States of training kept on disk by Orbax, with a checksum, and read back bit for bit."""

import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beamkd.base import InputError

DIGEST = "digest"
"""File in a checkpoint with the digest of what it is of."""


def save(folder: Path, name: str, state: Any, digest: str = "") -> None:
    """Keep `state` as the one checkpoint of that name; the one before is there until this one is complete.

    Args:
      folder: where checkpoints are.
      name: of the phase of a run.
      state: a pytree of arrays.
      digest: of all that the state comes from; `restore` takes the checkpoint by the same one only.

    Raises:
      InputError: what an earlier `save` left cannot be removed.
    """
    target, spare = _recover(folder, name)
    state = jax.tree.map(np.asarray, state)
    writing = folder.absolute() / f"{name}.writing"
    for leftover in (writing, spare):
        remove(leftover)
    with _checkpointer() as checkpointer:
        checkpointer.save(writing, {"state": state, "checksum": _checksum(state)})
    (writing / DIGEST).write_text(digest)
    if target.exists():
        target.rename(spare)
    writing.rename(target)
    remove(spare)


def restore(folder: Path, name: str, like: Any, digest: str = "") -> Any | None:
    """Read the checkpoint of that name.

    Args:
      folder: where checkpoints are.
      name: of the phase.
      like: a pytree of arrays, or of their shapes, as it was saved.
      digest: as it was saved.

    Returns:
      The state, or None if there is none.

    Raises:
      InputError: the checkpoint is damaged, of another shape or has another digest.
    """
    target, _ = _recover(folder, name)
    if not target.exists():
        return None
    if _digest(target) != digest:
        raise InputError(f"{target}: expected a checkpoint of this run, found one of another run or version")
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
    like = {"state": like, "checksum": jax.ShapeDtypeStruct((), np.uint32)}
    try:
        with _checkpointer() as checkpointer:
            found = checkpointer.restore(target, like)
    except Exception as error:  # Orbax and TensorStore raise errors of many kinds
        raise InputError(f"{target}: expected a complete checkpoint of this run, found {_first_line(error)}") from error
    if _checksum(found["state"]) != found["checksum"]:
        raise InputError(f"{target}: expected the weights that were saved, found others (damaged; remove the folder)")
    # Orbax gives arrays the type that is asked for, but leaves them the shape that was saved.
    for (path, leaf), wanted in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(like), strict=True):
        if leaf.shape != wanted.shape:
            name = jax.tree_util.keystr(path)
            raise InputError(f"{target}: expected {name} of shape {wanted.shape}, found {leaf.shape} (another run's?)")
    return found["state"]


def _checkpointer() -> Any:
    """Orbax's, by which of several processes only the first saves and restores, and waits for no other."""
    import orbax.checkpoint as ocp  # here, for it takes 0.4 s to import, and nodes on a network keep files of their own

    first_alone = ocp.options.MultiprocessingOptions(active_processes={0}, barrier_sync_key_prefix="first")
    return ocp.StandardCheckpointer(multiprocessing_options=first_alone)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing there is fine.

    Raises:
      InputError: it cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: expected what can be removed, found: {error.strerror}") from error


def _recover(folder: Path, name: str) -> tuple[Path, Path]:
    """Where the checkpoint is and where the one before goes; undoes a `save` that stopped between its two renames."""
    target, spare = folder.absolute() / name, folder.absolute() / f"{name}.before"
    if not target.exists() and spare.exists():
        spare.rename(target)
    return target, spare


def _digest(checkpoint: Path) -> str | None:
    try:
        return (checkpoint / DIGEST).read_text(errors="replace")
    except OSError:  # of an earlier version, or damaged
        return None


def _checksum(state: Any) -> np.uint32:
    value = 0
    for leaf in jax.tree.leaves(state):
        value = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), value)
    return np.uint32(value)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
