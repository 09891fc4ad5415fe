"""Networks of files as trackers of beams, a frame at a time: by JAX, or by ONNX Runtime alone."""

import inspect
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from beamkd.base import Array, InputError, Model
from beamkd.data.inputs import taken_by_networks
from beamkd.models import StreamState, load_network, published_model, streaming

LARGEST_ONNX = 256 * 2**20
"""Bytes of a file. The largest of our networks has 1.1 MB."""

Frames = Mapping[str, np.ndarray]


class Tracker:
    """A network and the last frames that it saw.

    Attributes:
      shapes: of a frame of each sensor, by name.
      slots: J + 1, the current one and those ahead.
      beams: M.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], blank: Any, run: Callable[[Any, Frames], tuple[np.ndarray, Any]]
    ) -> None:
        """The tracker of run(codes, frames [1, ...] by sensor) -> (logits [1, J + 1, M], codes), from `blank` codes."""
        self.shapes, self._blank, self._run = shapes, blank, run
        self.restart()
        self.slots, self.beams = self.step({name: np.zeros(shape) for name, shape in shapes.items()}).shape
        self.restart()

    def restart(self) -> None:
        """Forget all frames: in those before the next one nothing moves."""
        self._codes = self._blank

    def step(self, frames: Frames) -> np.ndarray:
        """Logits [J + 1, M] of the window of the last L frames, this one among them.

        Args:
          frames: of the next slot, by sensor, in the units of `Drives`; masks as 0 and 1.

        Raises:
          InputError: a frame has another shape, or gives logits that are not finite. The stream is as if it never came.
        """
        for name, shape in self.shapes.items():
            if frames[name].shape != shape:
                raise InputError(f"expected {name} {list(shape)}, found {list(frames[name].shape)}")
        given = {name: np.asarray(frames[name], np.float32)[None] for name in self.shapes}
        logits, codes = self._run(self._codes, given)
        if not np.isfinite(logits).all():
            raise InputError("expected a frame of finite logits, found NaN or infinity")
        self._codes = codes
        return logits[0]


def most_likely(logits: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of logits [..., M] so many beams, the likeliest first and equal ones by number, and their probabilities."""
    beams = np.argsort(-logits, axis=-1, kind="stable")[..., :count]
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return beams, np.take_along_axis(shares / shares.sum(-1, keepdims=True), beams, -1)


def open_tracker(path: Path, frames: int) -> Tracker:
    """The network of a file.

    Args:
      path: FILE.safetensors of ours, FILE.npz of a published one, or FILE.onnx of `beamkd.deploy.stream_to_onnx`.
      frames: that a published network looks at; the others say it themselves.

    Raises:
      InputError: the file cannot be read, or has no network of beams that encodes its frames.
    """
    if path.suffix == ".onnx":
        return _by_onnx(path)
    return _by_jax(path, published_model(path, frames) if path.suffix == ".npz" else load_network(path))


def _by_jax(path: Path, model: Model) -> Tracker:
    if "future" not in inspect.signature(type(model.module).__call__).parameters:
        raise InputError(f"{path}: expected a network that predicts beams, found a {type(model.module).__name__}")
    stream = streaming(model)

    @jax.jit
    def step(params: Any, state: StreamState, frames: Mapping[str, Array]):
        taken = {name: taken_by_networks(name, seen) for name, seen in frames.items()}
        return stream.step(params, state, taken)

    def run(state: StreamState, frames: Frames) -> tuple[np.ndarray, StreamState]:
        state, logits = step(model.params, state, frames)
        return np.asarray(logits), state

    try:
        blank = stream.start(model.params)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Tracker({name: shape[1:] for name, shape in model.inputs.items()}, blank, run)


def _by_onnx(path: Path) -> Tracker:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise InputError(f'ONNX: expected pip install "beamkd[deploy]", found no {error.name}') from None
    try:
        if path.stat().st_size > LARGEST_ONNX:
            raise InputError(f"{path}: expected at most {LARGEST_ONNX:,} bytes, found {path.stat().st_size:,}")
        contents = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a file with a network, found none ({error.strerror})") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong comes as an exception, too
    try:
        session = onnxruntime.InferenceSession(contents, options, providers=["CPUExecutionProvider"])
        about = session.get_modelmeta().custom_metadata_map
        shapes = {node.name: node.shape for node in session.get_inputs()}
        codes = json.loads(about.get("blank_codes", "{}"))
        blank = {name: np.broadcast_to(np.float32(code), shapes[name]) for name, code in codes.items()}
        names = [name.removeprefix("codes_") for name in blank]
        _check_names(shapes, names, [node.name for node in session.get_outputs()])

        def run(codes: Frames, frames: Frames) -> tuple[np.ndarray, Frames]:
            logits, *after = session.run(["logits", *(f"next_{name}" for name in names)], {**frames, **codes})
            return logits, dict(zip(blank, after, strict=True))

        return Tracker({name: tuple(shapes[name][1:]) for name in names}, blank, run)
    except Exception as error:  # the runtime raises errors of many kinds, and the metadata may be anyone's
        found = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected NAME.stream.onnx of experiments.deploy, found {found}") from None


def _check_names(shapes: Mapping[str, list], names: list[str], outputs: list[str]) -> None:
    """Raise `ValueError` unless a file takes a frame at a time of sensors with these names."""
    expected = {*names, *(f"codes_{name}" for name in names)}, {"logits", *(f"next_{name}" for name in names)}
    if not names or (shapes.keys(), {*outputs}) != expected:
        raise ValueError(f"inputs {', '.join(shapes)} and outputs {', '.join(outputs)}")
    for name in names:
        sizes = shapes[name]
        if not all(isinstance(size, int) for size in sizes) or sizes[0] != 1 or 4 * math.prod(sizes) > LARGEST_ONNX:
            raise ValueError(f"{name} of shape {sizes}")
