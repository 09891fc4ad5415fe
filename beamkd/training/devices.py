"""Where the members of an experiment (seeds, generators, nodes) run: on one device or spread over several."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.custom_batching import sequential_vmap
from jax.sharding import Mesh, PartitionSpec


def map_members(function: Callable, axes: Sequence[Any], devices: int = 1) -> Callable:
    """Compile `function` of one member into one of all of them.

    On a CPU the members run one after another: batching their matrix products gains nothing there (measured in
    BUILD_NOTES.md), and a member that has stopped early then costs nothing. Elsewhere they run side by side. With more
    than one device each gets an equal share, filled up with copies of the first member, and none waits for another.
    This is what `jax.pmap` does, with `jax.shard_map` itself, which also takes arguments that are spread already.

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
    mesh = Mesh(np.array(jax.devices()[:devices]), "members")
    spread = PartitionSpec("members")
    specs = jax.tree.map(lambda axis: PartitionSpec() if axis is None else spread, tuple(axes), is_leaf=_is_none)
    over_devices = jax.shard_map(members, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)

    @jax.jit
    def run(*args):
        count = _count_members(axes, args)
        chosen = np.arange(-(-count // devices) * devices)
        chosen[count:] = 0

        def fill(axis, tree):
            return tree if axis is None else jax.tree.map(lambda leaf: leaf[chosen], tree)

        results = over_devices(*_map_prefix(fill, axes, args))
        return jax.tree.map(lambda leaf: leaf[:count], results)

    return run


def _count_members(axes: Sequence[Any], args: Sequence[Any]) -> int:
    sizes = []
    _map_prefix(lambda axis, tree: axis is None or sizes.extend(map(len, jax.tree.leaves(tree))), axes, args)
    return sizes[0]


def _map_prefix(function: Callable, axes: Sequence[Any], args: Sequence[Any]) -> tuple:
    """function(axis, subtree) wherever `axes`, a prefix of `args`, has a leaf."""
    return jax.tree.map(function, tuple(axes), tuple(args), is_leaf=_is_none)


def _is_none(axis: Any) -> bool:
    return axis is None
