"""Networks as ONNX and StableHLO.

Files take sensors in the units of `Drives`: ranges and positions in metres, maps as they are, masks as 0 and 1. What
they give are logits [B, J + 1, M] of the current slot and of those after it.
"""

import functools
import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from beamkd.base import FUTURE, SLOT_SECONDS, Array, InputError, Model, as_taken
from beamkd.data.inputs import taken_by_networks
from beamkd.deploy.operators import by_operators
from beamkd.models import StreamState, streaming
from beamkd.models.layers import as_convolutions

OPSET = 17
"""Version of ONNX's operators: runtimes since 2022 have them."""


def to_onnx(model: Model, future: int = FUTURE, batch: int | None = None) -> bytes:
    """A network of windows as an ONNX file: of each sensor an input [B, L, ...], one output 'logits' [B, J + 1, M].

    Args:
      model: of one member.
      future: J, slots ahead that are predicted.
      batch: B; any if None.

    Returns:
      The file's contents. Its metadata say what its inputs are.

    Raises:
      InputError: the extra is not installed, or the network has no beams or an operation without a counterpart in ONNX.
    """
    _check(model)

    def predict(*seen):
        return logits_of(model, future, dict(zip(model.inputs, seen, strict=True)))

    shapes = [(batch or "B", *shape) for shape in model.inputs.values()]
    return _converted(model, predict, shapes, [*model.inputs], ["logits"], _about(model, future))


def stream_to_onnx(model: Model, future: int = FUTURE) -> bytes:
    """A network as an ONNX file that takes a frame at a time (`beamkd.models.streaming`), of one stream.

    Inputs are of each sensor a frame [1, ...] and 'codes_SENSOR' [1, L, E]; outputs 'logits' [1, J + 1, M] and
    'next_SENSOR', the codes for the next call. Those of a stream in which nothing moved yet are among the metadata.

    Arguments and errors are those of `to_onnx`.
    """
    _check(model)
    names, stream = [*model.inputs], streaming(model, future)
    state = jax.device_get(stream.start(model.params))

    def step(*given):
        frames, codes = (dict(zip(names, part, strict=True)) for part in (given[: len(names)], given[len(names) :]))
        taken = {name: taken_by_networks(name, seen) for name, seen in frames.items()}
        after, logits = stream.step(model.params, StreamState(codes, jnp.zeros(1, int)), taken)
        return logits, *(after.codes[name] for name in names)

    shapes = [(1, *shape[1:]) for shape in model.inputs.values()] + [state.codes[name].shape for name in names]
    inputs = [*names, *(f"codes_{name}" for name in names)]
    blank = {f"codes_{name}": state.codes[name][0, 0].tolist() for name in names}
    about = _about(model, future) | {"blank_codes": blank}
    return _converted(model, step, shapes, inputs, ["logits", *(f"next_{name}" for name in names)], about)


def to_stablehlo(
    model: Model, future: int = FUTURE, platforms: Sequence[str] = ("cpu", "cuda", "tpu")
) -> export.Exported:
    """A network of windows as StableHLO, for batches of any size: `to_stablehlo(model).serialize()`.

    `jax.export.deserialize(contents).call(sensors)` gives logits [B, J + 1, M] of sensors by name, [B, L, ...].

    Args:
      model: of one member; its weights are in the file.
      future: J, slots ahead that are predicted.
      platforms: that it is compiled for.
    """
    _check(model)
    (count,) = export.symbolic_shape("B")
    shapes = {name: jax.ShapeDtypeStruct((count, *shape), jnp.float32) for name, shape in model.inputs.items()}
    predict = jax.jit(functools.partial(logits_of, model, future))
    with as_convolutions():
        return export.export(predict, platforms=platforms)(shapes)


def logits_of(model: Model, future: int, sensors: Mapping[str, Array]) -> Array:
    """What the files give, [B, J + 1, M], of sensors by name, [B, L, ...], float32 in the units of `Drives`."""
    taken = as_taken({name: taken_by_networks(name, seen) for name, seen in sensors.items()})
    return model.module.apply(model.params, taken, future=future, slots=future + 1).logits


def _check(model: Model) -> None:
    """Raise `InputError` unless the model predicts beams of windows."""
    if "future" not in inspect.signature(type(model.module).__call__).parameters:
        raise InputError(f"expected a network that predicts beams, found a {type(model.module).__name__}")


def _converted(
    model: Model, function: Callable, shapes: Sequence[tuple], inputs: list[str], outputs: list[str], about: dict
) -> bytes:
    """`function` of arrays of these shapes, as an ONNX file with these names."""
    try:
        import jax2onnx
    except ModuleNotFoundError as error:
        raise InputError(f'ONNX: expected pip install "beamkd[deploy]", found no {error.name}') from None
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of shapes whose type it does not know
    try:
        with by_operators(), as_convolutions():
            made = jax2onnx.to_onnx(
                function, shapes, model_name="beamkd", opset=OPSET, input_names=inputs, output_names=outputs
            )
    except Exception as error:  # it fails in many ways on an operation that it does not know
        found = f"{type(model.module).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"ONNX: expected a network of operators that it has, found {found}") from None
    for key, value in about.items():
        made.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    return made.SerializeToString()


def _about(model: Model, future: int) -> dict[str, Any]:
    """What a file says of itself."""
    return {
        "network": type(model.module).__name__,
        "inputs": {name: ["B", *shape] for name, shape in model.inputs.items()},
        "units": "lidar: metres, 0 where nothing moves; gps: metres; masks: 0 or 1; radar, doppler: magnitudes",
        "slots": list(range(future + 1)),
        "slot_seconds": SLOT_SECONDS,
    }
