"""Where members (seeds, generators, nodes) and their batches run: on one device or spread over several.

Devices form a mesh with two axes. Along `MEMBERS` each row of devices has members of its own and none waits for
another. Along `BATCH` the devices of a row share every batch of a member: the program stays that of one device, and the
compiler divides it. So losses of a whole batch (its mean and variance, its entropy, its masked means) are what they are
on one device, which a mean over the losses of the devices' parts would not be, and sizes that do not divide are padded
and masked.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.custom_batching import sequential_vmap
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MEMBERS, BATCH = "members", "batch"


def map_members(
    function: Callable,
    axes: Sequence[Any],
    devices: int = 1,
    batch_devices: int = 1,
    compiler_options: dict[str, Any] | None = None,
) -> Callable:
    """Compile `function` of one member into one of all of them.

    On a CPU the members run one after another: batching their matrix products gains nothing there (measured in
    BUILD_NOTES.md), and a member that has stopped early then costs nothing. Elsewhere they run side by side. With more
    devices each row of them gets an equal share, filled up with copies of the first member, and none waits for another.

    Args:
      function: of arrays, one member.
      axes: for each argument 0 if it has a leading axis of members, None if they share it; or a pytree of these.
      devices: how many devices to use, of all processes together; each gives the same number.
      batch_devices: how many of them share each member's batches, where `function` says so by `spread_batch`.
      compiler_options: of `jax.jit`, for instance `fast_options()`; the result then cannot be called within a jitted
        function.

    Returns:
      A jitted function whose results have a leading axis of members. With several processes all must call it, each with
      the same arguments: arrays of its own, of which only its devices' share is copied there, or earlier results.
    """
    if jax.default_backend() == "cpu":
        function = sequential_vmap(function)
    members = jax.vmap(function, tuple(axes))
    if devices == 1:
        return jax.jit(members, compiler_options=compiler_options)
    rows = devices // batch_devices
    mesh = Mesh(_devices(devices).reshape(rows, batch_devices), (MEMBERS, BATCH), axis_types=(AxisType.Auto,) * 2)
    spread = PartitionSpec(MEMBERS)
    specs = jax.tree.map(lambda axis: PartitionSpec() if axis is None else spread, tuple(axes), is_leaf=_is_none)
    over_rows = jax.shard_map(
        members, mesh=mesh, in_specs=specs, out_specs=spread, axis_names={MEMBERS}, check_vma=False
    )

    @functools.partial(jax.jit, compiler_options=compiler_options)
    def run(*args):
        count = _count_members(axes, args)
        chosen = np.arange(-(-count // rows) * rows)
        chosen[count:] = 0

        def fill(axis, tree):
            return tree if axis is None else jax.tree.map(lambda leaf: leaf[chosen], tree)

        results = over_rows(*_map_prefix(fill, axes, args))
        return jax.tree.map(lambda leaf: leaf[:count], results)

    if jax.process_count() == 1:
        return run
    return lambda *args: run(*_map_prefix(lambda axis, tree: _place(tree, mesh, axis), axes, args))


@functools.cache
def fast_options() -> dict[str, Any]:
    """Options of the compiler that make our programs faster than its own choice does; none where it knows none.

    On a CPU, matrix products stay with Eigen. XLA hands those that it fuses with a sum or a transposition to YNNPACK,
    and they take up to twice as long (JAX 0.10.2; measured in BUILD_NOTES.md).
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # another version of XLA, without this option
        return {}
    return options


def spread_batch(tree: Any, axis: int = 0) -> Any:
    """Divide an axis of batches over the devices that share them; nothing changes but where its parts are computed.

    Args:
      tree: arrays with that axis, of any length.
      axis: which one.

    Returns:
      `tree`. Whatever is computed from it within `map_members` is divided alike.
    """
    if BATCH not in jax.sharding.get_abstract_mesh().axis_names:
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec(*[None] * axis, BATCH))


def _devices(count: int) -> np.ndarray:
    """As many devices of each process, those of a process side by side."""
    processes = jax.process_count()
    return np.array([jax.local_devices(process)[: count // processes] for process in range(processes)])


def _place(tree: Any, mesh: Mesh, axis: int | None) -> Any:
    """Make arrays that every process has into ones that their devices share; those that are already stay."""

    def place(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf
        if jax.dtypes.issubdtype(jax.numpy.result_type(leaf), jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        divides = axis == 0 and len(whole) % mesh.shape[MEMBERS] == 0
        sharding = NamedSharding(mesh, PartitionSpec(MEMBERS) if divides else PartitionSpec())
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, tree)


def _count_members(axes: Sequence[Any], args: Sequence[Any]) -> int:
    sizes = []
    _map_prefix(lambda axis, tree: axis is None or sizes.extend(map(len, jax.tree.leaves(tree))), axes, args)
    return sizes[0]


def _map_prefix(function: Callable, axes: Sequence[Any], args: Sequence[Any]) -> tuple:
    """function(axis, subtree) wherever `axes`, a prefix of `args`, has a leaf."""
    return jax.tree.map(function, tuple(axes), tuple(args), is_leaf=_is_none)


def _is_none(axis: Any) -> bool:
    return axis is None
