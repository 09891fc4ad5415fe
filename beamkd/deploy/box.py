"""What a box beside the road does with an ONNX file: a program of NumPy and ONNX Runtime, on one core, without JAX.

`python box.py FILE.onnx WINDOWS.npz FOUND.npz CALLS` leaves in FOUND.npz the logits of all windows, the seconds of so
many calls with one window each, and the bytes of memory that the process had at most.
"""

import sys
import time

import numpy as np
import onnxruntime

AT_ONCE = 64
"""Windows in one call, where the file takes any number."""

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
    with np.load(windows) as file:
        given = {name: file[name] for name in file.files}
    count, size = len(next(iter(given.values()))), session.get_inputs()[0].shape[0]
    step = size if isinstance(size, int) else AT_ONCE
    logits = [
        session.run(["logits"], {name: values[first : first + step] for name, values in given.items()})[0]
        for first in range(0, count, step)
    ]
    seconds = []
    for call in range(WARMING_UP + int(calls)):
        one = {name: values[call % count : call % count + 1] for name, values in given.items()}
        began = time.perf_counter()
        session.run(["logits"], one)
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > LONGEST:
            break
    np.savez(found, logits=np.concatenate(logits), seconds=seconds[WARMING_UP:] or seconds[-1:], peak=_peak())


def _peak() -> int:
    """Bytes of memory that this process had at most; 0 where the system does not say it."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except OSError:
        return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
