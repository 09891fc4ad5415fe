"""Where the members of an experiment (seeds, generators, nodes) run: on one device or spread over several."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.custom_batching import sequential_vmap


def map_members(function: Callable, axes: Sequence[Any], devices: int = 1) -> Callable:
    """Compile `function` of one member into one of all of them.

    On a CPU the members run one after another: batching their matrix products gains nothing there (measured in
    BUILD_NOTES.md), and a member that has stopped early then costs nothing. Elsewhere they run side by side. With more
    than one device each gets an equal share, the last one padded by copies of the first member, and no device waits for
    another.

    Args:
      function: of arrays, one member.
      axes: for each argument 0 if it has a leading axis of members, None if they share it; or a pytree of these.
      devices: how many devices to use.

    Returns:
      A jitted function whose results have a leading axis of members.
    """
    if jax.default_backend() == "cpu":
        function = sequential_vmap(function)
    members = jax.vmap(function, tuple(axes))
    if devices == 1:
        return jax.jit(members)
    over_devices = jax.pmap(members, in_axes=tuple(axes), devices=jax.devices()[:devices])

    def run(*args):
        count = _count_members(axes, args)
        share = -(-count // devices)
        pick = np.arange(devices * share)
        pick[count:] = 0

        def deal(axis, tree):
            if axis is None:
                return tree
            return jax.tree.map(lambda leaf: leaf[pick].reshape(devices, share, *leaf.shape[1:]), tree)

        def collect(leaf):
            return leaf.reshape(devices * share, *leaf.shape[2:])[:count]

        return jax.tree.map(collect, over_devices(*_map_prefix(deal, axes, args)))

    return run


def _count_members(axes: Sequence[Any], args: Sequence[Any]) -> int:
    sizes = []
    _map_prefix(lambda axis, tree: axis is None or sizes.extend(map(len, jax.tree.leaves(tree))), axes, args)
    return sizes[0]


def _map_prefix(function: Callable, axes: Sequence[Any], args: Sequence[Any]) -> tuple:
    """function(axis, subtree) wherever `axes`, a prefix of `args`, has a leaf."""
    return jax.tree.map(function, tuple(axes), tuple(args), is_leaf=lambda axis: axis is None)
