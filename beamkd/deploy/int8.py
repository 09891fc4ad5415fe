"""ONNX files whose weights are bytes."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from beamkd.base import InputError

OPERATORS = ("Conv", "Gemm", "MatMul")
"""Whose inputs and weights are bytes. Of recurrences the weights alone are: their states feed on their own errors."""

AT_ONCE = 8
"""Windows that are calibrated with at once: what lies between layers of a camera network is large."""


def to_int8(contents: bytes, windows: Mapping[str, np.ndarray]) -> bytes:
    """A float32 ONNX file of `to_onnx` with int8 weights and products.

    Weights have a scale an output, what goes into a product one scale, from the least and greatest value over the
    windows that it is calibrated on: ONNX Runtime's static quantisation, as pairs of QuantizeLinear and
    DequantizeLinear.

    Args:
      contents: of the file.
      windows: inputs by name, [W, L, ...]; generated ones where the deployment is to be data-free.

    Raises:
      InputError: the extra `deploy` is not installed.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ModuleNotFoundError as error:
        raise InputError(f'ONNX: expected pip install "beamkd[deploy]", found no {error.name}') from None

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = _batches(windows)

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.onnx", Path(folder) / "made.onnx"
        quantization.shape_inference.quant_pre_process(onnx.load_from_string(contents), given)
        quantization.quantize_static(
            given,
            made,
            Reader(),
            op_types_to_quantize=[*OPERATORS],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": [*OPERATORS]},
        )
        model = onnx.load(made)
    _shorten_recurrences(model)
    return _with_short_names(model).SerializeToString()


def _batches(windows: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    count = len(next(iter(windows.values())))
    for first in range(0, count, AT_ONCE):
        yield {name: np.asarray(values[first : first + AT_ONCE], np.float32) for name, values in windows.items()}


def _shorten_recurrences(model) -> None:
    """Weights of GRU operators as bytes with a scale a gate and state, from which the runtime makes them once."""
    from onnx import helper, numpy_helper

    constants = {constant.name: constant for constant in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "GRU":
            for place in (1, 2):
                name, weights = node.input[place], numpy_helper.to_array(constants[node.input[place]])
                bytes_, scales = _as_bytes(weights[0])
                for part, values in (("bytes", bytes_), ("scales", scales)):
                    model.graph.initializer.append(numpy_helper.from_array(values, f"{name}_{part}"))
                given = [f"{name}_bytes", f"{name}_scales"]
                rows = helper.make_node("DequantizeLinear", given, [f"{name}_rows"], axis=0)
                axes = numpy_helper.from_array(np.zeros(1, np.int64), f"{name}_axes")
                model.graph.initializer.append(axes)
                whole = helper.make_node("Unsqueeze", [f"{name}_rows", axes.name], [f"{name}_whole"])
                node.input[place] = f"{name}_whole"
                nodes += [rows, whole]
                model.graph.initializer.remove(constants[name])
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _as_bytes(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of weights [rows, N] bytes of the same shape and a scale a row: their product is near the weights."""
    scales = np.maximum(np.abs(weights).max(1), np.finfo(np.float32).tiny) / 127
    return np.rint(weights / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def _with_short_names(model):
    """The same file without what only tools look at: shapes between operators, and long names."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    names = {}

    def short(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"{len(names):x}")

    for node in graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        node.input[:], node.output[:] = map(short, list(node.input)), map(short, list(node.output))
    for constant in graph.initializer:
        constant.name = short(constant.name)
    graph.ClearField("value_info")
    return model
