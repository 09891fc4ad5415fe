"""What crosses between nodes and the centre: arrays, and the bytes that they are on a link."""

import dataclasses
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load, save

from beamkd.base import Array, InputError


@dataclasses.dataclass(frozen=True)
class Message:
    """Messages of one kind in a round, of all that send one.

    Attributes:
      link: what they cross: 'up', from nodes to the centre; 'down', from the centre to nodes; 'between' nodes.
      arrays: a pytree, [seeds, senders, ...].
      receivers: how many get what each sends, [seeds, senders] int32; 0: it sends nothing.
    """

    link: str
    arrays: Any
    receivers: Array


def pack(arrays: Any) -> bytes:
    """A pytree of arrays as the bytes of a safetensors file; never a pickle."""
    return save({name: np.asarray(leaf, order="C") for name, leaf in _named(arrays).items()})


def unpack(data: bytes, like: Any) -> Any:
    """The inverse of `pack`.

    Args:
      data: the bytes.
      like: a pytree of arrays or their shapes (`jax.ShapeDtypeStruct`), which those that come must have.

    Raises:
      InputError: the bytes hold no arrays, or others.
    """
    try:
        found = load(data)
    except Exception as error:  # safetensors raises errors of several kinds
        raise InputError(f"message: expected arrays, found {type(error).__name__}") from None
    expected = _named(like)
    if found.keys() != expected.keys():
        raise InputError(f"message: expected {', '.join(expected)}, found {', '.join(found)}")
    for name, leaf in expected.items():
        shape, dtype = found[name].shape, found[name].dtype
        if (shape, dtype) != (leaf.shape, leaf.dtype):
            raise InputError(f"message: expected {name} {leaf.shape} {leaf.dtype}, found {shape} {dtype}")
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in expected])


def size_of(arrays: Any) -> int:
    """Bytes of `pack` of arrays, or of their shapes (`jax.ShapeDtypeStruct`)."""
    return len(pack(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), arrays)))


def _named(arrays: Any) -> dict[str, Any]:
    """Leaves by the path to them."""
    leaves = jax.tree.leaves_with_path(arrays)
    return {jax.tree_util.keystr(path, simple=True, separator="/") or "array": leaf for path, leaf in leaves}
