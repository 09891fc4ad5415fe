"""Shorter messages: numbers of fewer bits, and of logits the best beams alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beamkd.base import Array

BEST = 8
"""Beams of a slot that 'top' says."""

LEVELS = 127
"""Of int8, on either side of 0."""

RANKED = ("logits", "targets")
"""Names of arrays whose last axis is beams."""


@struct.dataclass
class Scaled:
    """An array in steps of its greatest absolute value over 127.

    Attributes:
      values: [...] int8.
      scale: [] float32, a step.
    """

    values: Array
    scale: Array


@struct.dataclass
class Best:
    """The best beams of each slot.

    Attributes:
      values: [..., k] float16, greatest first.
      beams: [..., k], which they are.
      rest: [...] float16, mean of all others.
    """

    values: Array
    beams: Array
    rest: Array


@dataclasses.dataclass(frozen=True)
class Codec:
    """What crosses in place of an array of floating-point numbers; all others cross as they are.

    Attributes:
      encode: encode(name, array) -> a pytree of arrays; `name` is the last word of the path to it in the message.
      decode: decode(name, that, shape) -> the array, or one near it.
    """

    encode: Callable[[str, Array], Any]
    decode: Callable[[str, Any, tuple[int, ...]], Array]

    def sent(self, message: Any) -> Any:
        """What crosses in place of a message, a pytree of arrays."""
        return jax.tree.map_with_path(
            lambda path, leaf: self.encode(_last(path), leaf) if _real(leaf) else leaf, message
        )

    def arriving(self, sent: Any, like: Any) -> Any:
        """The message that `sent` is made of; `like` has its shapes."""

        def arrive(path, leaf, part):
            return self.decode(_last(path), part, leaf.shape) if _real(leaf) else part

        return jax.tree.map_with_path(arrive, like, sent)

    def crossed(self, message: Any) -> Any:
        """A message as it arrives."""
        return self.arriving(self.sent(message), message)


def _as_half(name: str, array: Array) -> Array:
    return array.astype(jnp.float16)


def _as_float(name: str, sent: Array, shape: tuple[int, ...]) -> Array:
    return sent.astype(jnp.float32)


def _scaled(name: str, array: Array) -> Scaled:
    scale = jnp.maximum(jnp.abs(array).max(), jnp.finfo(jnp.float32).tiny) / LEVELS
    return Scaled(jnp.round(array / scale).astype(jnp.int8), scale)


def _unscaled(name: str, sent: Scaled, shape: tuple[int, ...]) -> Array:
    return sent.values * sent.scale


def _best(name: str, array: Array) -> Any:
    if name not in RANKED:
        return _as_half(name, array)
    beams = array.shape[-1]
    values, places = jax.lax.top_k(array, min(BEST, beams))
    rest = (array.sum(-1) - values.sum(-1)) / max(beams - BEST, 1)
    return Best(_as_half(name, values), places.astype(jnp.uint8 if beams <= 256 else jnp.uint16), _as_half(name, rest))


def _filled(name: str, sent: Any, shape: tuple[int, ...]) -> Array:
    if name not in RANKED:
        return _as_float(name, sent, shape)
    rest = jnp.broadcast_to(sent.rest[..., None].astype(jnp.float32), shape)
    return jnp.put_along_axis(rest, sent.beams.astype(int), sent.values.astype(jnp.float32), -1, inplace=False)


CODECS: dict[str, Codec] = {
    "float32": Codec(lambda name, array: array, lambda name, sent, shape: sent),
    "float16": Codec(_as_half, _as_float),
    "int8": Codec(_scaled, _unscaled),
    "top": Codec(_best, _filled),
}
"""By name, as flags have them."""


def _real(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _last(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path[-1:], simple=True)
