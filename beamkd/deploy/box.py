"""What a box beside the road does with an ONNX file: a program of NumPy and ONNX Runtime, on one core, without JAX.

`python box.py FILE.onnx FOLDER FOUND.npz CALLS` leaves in FOUND.npz the logits of all windows, whose SENSOR.npy are in
FOLDER, the seconds of so many calls with one window each, and the bytes of memory that the process had at most in them.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

AT_ONCE = 16
"""Windows in one call, where the file takes any number."""

TIMED = 100
"""Windows that calls are timed with, over and over."""

WARMING_UP = 100
"""Calls that are not timed."""

LONGEST = 20
"""Seconds of calls; a large network has fewer."""


def main(network: str, windows: str, found: str, calls: str) -> None:
    """Run the network of a file on the windows of another."""
    assert "jax" not in sys.modules
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    files = {file.stem: np.load(file, mmap_mode="r") for file in Path(windows).glob("*.npy")}
    count, size = len(next(iter(files.values()))), session.get_inputs()[0].shape[0]

    def some(first: int, number: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(values[first : first + number], np.float32) for name, values in files.items()}

    seconds = []
    for call in range(WARMING_UP + int(calls)):
        one = some(call % min(count, TIMED), 1)
        began = time.perf_counter()
        session.run(["logits"], one)
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > LONGEST:
            break
    peak, step = _peak(), size if isinstance(size, int) else AT_ONCE
    logits = [session.run(["logits"], some(first, step))[0] for first in range(0, count, step)]
    np.savez(found, logits=np.concatenate(logits), seconds=seconds[WARMING_UP:] or seconds[-1:], peak=peak)


def _peak() -> int:
    """Bytes of memory that this process had at most; 0 where the system does not say it."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except OSError:
        return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
