"""An ONNX file tried out as on a box beside the road: in a process of its own, on one core, without JAX."""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from beamkd.base import InputError

BOX = Path(__file__).with_name("box.py")


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a file gave.

    Attributes:
      logits: [W, J + 1, M], of all windows.
      seconds: of calls with one window each.
      peak: bytes that the process had at most for such calls, with Python, NumPy and the runtime.
    """

    logits: np.ndarray
    seconds: np.ndarray
    peak: int

    def microseconds(self, percent: float) -> float:
        """That so many percent of the calls took at most."""
        return 1e6 * float(np.percentile(self.seconds, percent))


def try_out(contents: bytes, windows: Mapping[str, np.ndarray], calls: int) -> Trial:
    """Run an ONNX file of `to_onnx` or `to_int8`.

    Args:
      contents: of the file.
      windows: inputs by name, [W, L, ...], in the units of `Drives`, of any type of numbers.
      calls: how many are timed.

    Raises:
      InputError: the runtime does not take the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        network, given, found = (Path(folder) / name for name in ("network.onnx", "windows", "found.npz"))
        network.write_bytes(contents)
        given.mkdir()
        for name, values in windows.items():
            np.save(given / f"{name}.npy", values)
        command = [sys.executable, "-I", BOX, network, given, found, str(calls)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1][:200]
            raise InputError(f"ONNX Runtime: expected to run the file, found {last}")
        with np.load(found) as file:
            return Trial(file["logits"], file["seconds"], int(file["peak"]))
