"""Beam tracking frame by frame: each is encoded once, and its code kept for as many slots as a window has."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import struct

from beamkd.base import FUTURE, Array, Encoded, InputError, Model, as_taken


@struct.dataclass
class StreamState:
    """What a stream keeps from slot to slot.

    Attributes:
      codes: of the last L frames, by sensor, [B, L, E].
      seen: [B] int32, how many frames came.
    """

    codes: Mapping[str, Array]
    seen: Array


class Streaming(NamedTuple):
    """A network as a pair of functions.

    Attributes:
      start: start(params, batch=1) -> the state of streams in which nothing has moved yet: codes of all-zero frames. A
        stream with a gap in time starts again.
      step: step(params, state, frames) -> (state, logits [B, J + 1, M] of the current slot and of those after it).
        `frames` are of one slot, in the network's units, of one sensor an array [B, ...], of several such arrays by
        name. Logits are those of the window of the last L frames, with as many all-zero ones in front as `state.seen`
        lacks.
    """

    start: Callable[..., StreamState]
    step: Callable[[Any, StreamState, Any], tuple[StreamState, Array]]


def streaming(model: Model, future: int = FUTURE) -> Streaming:
    """A network of windows as one of frames. Its functions are pure: `jax.jit(streaming(model).step)`.

    Args:
      model: of windows of L frames; of its weights nothing is looked at.
      future: J, slots ahead that are predicted.

    Raises:
      InputError: once called, where the network looks at one frame only.
    """
    shapes = {name: shape[1:] for name, shape in model.inputs.items()}
    (length,) = {shape[0] for shape in model.inputs.values()}

    def encode(params, frames):
        """Codes [B, 1, E] of frames [B, ...], by sensor."""
        one = as_taken({name: seen[:, None] for name, seen in frames.items()})
        sown = model.module.apply(params, one, mutable=["intermediates"])[1].get("intermediates")
        if sown is None:
            raise InputError(f"expected a network that encodes frames, found a {type(model.module).__name__}")
        return {name: sown.get(f"{name}_frames", sown.get("frames"))[0] for name in frames}

    def start(params, batch=1):
        blank = encode(params, {name: jnp.zeros((1, *shape)) for name, shape in shapes.items()})
        codes = {name: jnp.broadcast_to(code, (batch, length, code.shape[-1])) for name, code in blank.items()}
        return StreamState(codes, jnp.zeros(batch, jnp.int32))

    def step(params, state, frames):
        new = encode(params, frames if isinstance(frames, Mapping) else dict.fromkeys(shapes, frames))
        codes = {name: jnp.concatenate([state.codes[name][:, 1:], code], 1) for name, code in new.items()}
        window = as_taken({name: Encoded(code, shapes[name]) for name, code in codes.items()})
        logits = model.module.apply(params, window, future=future, slots=future + 1).logits
        return StreamState(codes, state.seen + 1), logits

    return Streaming(start, step)
