"""Several processes, on one host or many, that run one experiment together.

All run the same program on the same inputs. Arrays that `map_members` returns are spread over the devices of all; what
Python reads goes through `to_host`. What must happen once goes through `from_primary`; what every process does for
itself and only some may be able to (reading files), through `agreed`.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from beamkd.base import InputError

CLUSTER = "auto"
"""In place of the coordinator's address: JAX finds it, and the processes, in the cluster's environment."""

HEARTBEAT = 30
"""Seconds without a sign of life after which a process counts as lost."""

SHUTDOWN = 120
"""Seconds for which a process that has ended, or been refused its input, waits for the others to end alike."""

LONGEST = 1000
"""Bytes of a refusal that the other processes get to know."""

Result = TypeVar("Result")


@contextlib.contextmanager
def distributed(name: str, coordinator: str | None, processes: int | None, process: int | None) -> Iterator[None]:
    """Run what is within as one of several processes; if another one is lost, this one stops with one line.

    Must be entered before any other use of JAX's devices.

    Args:
      name: of the program, for that line.
      coordinator: HOST:PORT of the first process, or `CLUSTER`; None to run alone.
      processes: how many there are.
      process: number of this one, from 0.

    Raises:
      InputError: no cluster's environment was found, or the first process cannot have its port.
    """
    if coordinator is None:
        yield
        return
    lost = f"{name}: another process was lost; start all of them again with --resume"
    _say_when_aborted(f"{name}: --coordinator: expected all processes at {coordinator}, found some missing")
    found = None if coordinator == CLUSTER else coordinator
    if found and process == 0:
        _check_free(found)
    try:
        jax.distributed.initialize(
            found, processes, process, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=SHUTDOWN
        )
    except ValueError as error:
        raise InputError(f"--coordinator: expected the environment of a cluster, found none ({error})") from None
    _say_when_aborted(lost)
    try:
        yield
    except InputError:  # all processes come here alike, and none is lost
        raise
    except Exception as error:
        if "Gloo" in str(error):  # the library that connects CPUs notices at once
            _leave(f"{lost} ({str(error).splitlines()[0][:200]})")
        _leave(traceback.format_exc())


def is_primary() -> bool:
    """Whether this process is the primary one, number 0, which alone writes."""
    return jax.process_index() == 0


def to_host(tree: Any) -> Any:
    """Arrays as NumPy's, whole, in every process; all of them must call it. Other leaves stay as they are."""

    def whole(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return jax.device_get(leaf)

    return jax.tree.map(whole, tree)


def from_primary(make: Callable[[], Result]) -> Result:
    """Call `make` in the primary process only; its result, or its `InputError`, is that of every process.

    What `make` returns is pickled. All processes must call this; none goes on before `make` has ended.
    """
    if jax.process_count() == 1:
        return make()
    outcome = None
    if is_primary():
        try:
            outcome = make(), None
        except InputError as error:
            outcome = None, str(error)
    result, refusal = pickle.loads(_broadcast(pickle.dumps(outcome)))
    if refusal:
        raise InputError(refusal)
    return result


def agreed(make: Callable[[], Result]) -> Result:
    """Call `make` in every process, each of which gets its own result; an `InputError` of any is one of all.

    All processes must call this; none goes on before `make` has ended in all of them.
    """
    if jax.process_count() == 1:
        return make()
    result, refusal = None, ""
    try:
        result = make()
    except InputError as error:
        refusal = str(error) or "InputError"
    told = np.frombuffer(refusal.encode()[:LONGEST].ljust(LONGEST, b"\0"), np.uint8)
    for process, line in enumerate(multihost_utils.process_allgather(told)):
        if line.any():
            raise InputError(f"process {process}: {line.tobytes().rstrip(bytes(1)).decode(errors='replace')}")
    return result


def _broadcast(message: bytes) -> bytes:
    """The primary process's message."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    padded = np.frombuffer(message.ljust(size, b"\0")[:size], np.uint8)
    return multihost_utils.broadcast_one_to_all(padded).tobytes()


def _check_free(address: str) -> None:
    """Where the port is taken, JAX's runtime itself crashes now and then."""
    try:
        socket.create_server(("", int(address.rpartition(":")[2]))).close()
    except OSError as error:
        raise InputError(f"--coordinator: expected a free port in {address}, found {error.strerror}") from None


def _say_when_aborted(line: str) -> None:
    """End with `line` when JAX's runtime aborts this process.

    The runtime aborts from a thread of its own when the first process is gone or heartbeats fail. Python runs signal
    handlers in the main thread, which no longer gets to run: so this handler is registered with C.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: _leave(line))
    _KEPT.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


_KEPT = []
"""C handlers: nothing else refers to them."""


def _leave(message: str) -> None:
    """End this process with status 1, at once: an orderly end would wait for processes that are gone.

    The main thread and one of the runtime's may both come here. The lock lets one of them print, as the last line.
    """
    _LEAVING.acquire()
    sys.stdout.flush()
    sys.stderr.flush()
    shown = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the runtime's threads go on writing there
    os.write(shown, f"{message}\n".encode())
    os._exit(1)


_LEAVING = threading.Lock()
"""Never released."""
