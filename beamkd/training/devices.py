"""Where members (seeds, generators, nodes) and their batches run: on one device or spread over several.

Devices form a mesh with two axes, the second only where it has more than one device. Along `MEMBERS` each row of
devices has members of its own and none waits for another. Along `BATCH` the devices of a row share every batch of a
member: functions that get this as `axis_name` take their device's share of a batch and sum over all of them, where
others do the same work on each device of the row.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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

    On a CPU the members of a device run one after another: batching their matrix products gains nothing there (measured
    in BUILD_NOTES.md), and a member that has stopped early then costs nothing. Elsewhere they run side by side. Of more
    devices as many rows are used as there are members, at most; each gets an equal share, filled up with copies of the
    first member (which a CPU skips), and none waits for another.

    Args:
      function: of arrays, one member.
      axes: for each argument 0 if it has a leading axis of members, None if they share it; or a pytree of these.
      devices: how many devices to use, of all processes together; each gives the same number.
      batch_devices: how many of them share each member's batches; more than one are along the axis `BATCH`.
      compiler_options: of `jax.jit`, for instance `fast_options()`; the result then cannot be called within a jitted
        function.

    Returns:
      A compiled function whose results have a leading axis of members. With several processes all must call it, each
      with the same arguments: arrays of its own, of which only its devices' share is copied there, or earlier results.
    """

    @functools.partial(jax.jit, compiler_options=compiler_options)
    def run(shares, *args):
        mesh = _mesh(devices, batch_devices, _count_members(axes, args))
        if mesh.size == 1:
            return _on_a_device(function, axes)(shares, *args)
        args = _own(axes, args, lambda leaf: _filled_up(leaf, len(shares)))
        return _over_rows(function, axes, mesh)(shares, *args)

    def run_and_cut(*args):
        count = _count_members(axes, args)
        mesh = _mesh(devices, batch_devices, count)
        shares = _shares(count, mesh.shape[MEMBERS])
        if jax.process_count() > 1:
            shares, *args = _map_prefix(lambda axis, tree: _place(tree, mesh, axis), (0, *axes), (shares, *args))
        elif mesh.size > 1:
            args = _map_prefix(lambda axis, tree: _spread(tree, mesh, axis), axes, args)
        results = run(shares, *args)
        if all(len(leaf) == count for leaf in jax.tree.leaves(results)):
            return results
        # Cut when all devices are done: they exchange parts for it, and those of a CPU that have waited 40 s for one
        # with more to train end the process.
        return _first(jax.block_until_ready(results), count)

    return run_and_cut


@functools.partial(jax.jit, static_argnums=1)
def _first(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[:count], tree)


def _over_rows(function: Callable, axes: Sequence[Any], mesh: Mesh) -> Callable:
    """`_on_a_device` on each row of devices, with as many members."""
    spread = PartitionSpec(MEMBERS)
    specs = jax.tree.map(lambda axis: PartitionSpec() if axis is None else spread, (0, *axes), is_leaf=_is_none)
    members = _on_a_device(function, axes)
    return jax.shard_map(members, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)


def _on_a_device(function: Callable, axes: Sequence[Any]) -> Callable:
    """`function` of one member as one of all on a device, `run(share, *args)`.

    A CPU takes one member after another, the first `share[0]` of them. That this is not known when the program is
    compiled makes it the same program for any number: with one, XLA would do without the loop and round differently.
    """
    axes = tuple(axes)
    if jax.default_backend() != "cpu":
        return lambda share, *args: jax.vmap(function, axes)(*args)

    @functools.partial(jax.jit, inline=True)  # traced once for its shapes and the loop
    def result(member, args):
        return function(*_own(axes, args, lambda leaf: jax.lax.dynamic_index_in_dim(leaf, member, keepdims=False)))

    def run(share, *args):
        def put(member, results):
            def put_one(leaf, own):
                return jax.lax.dynamic_update_index_in_dim(leaf, own, member, 0)

            return jax.tree.map(put_one, results, result(member, args))

        count = _count_members(axes, args)
        shapes = jax.eval_shape(result, share[0], args)
        return jax.lax.fori_loop(jnp.uint32(0), share[0], put, jax.tree.map(lambda shape: _blank(count, shape), shapes))

    return run


def _own(axes: Sequence[Any], args: Sequence[Any], take: Callable) -> tuple:
    """What some members have of the arguments, those that `take` takes of each leaf, and what all share."""
    return _map_prefix(lambda axis, tree: tree if axis is None else jax.tree.map(take, tree), axes, args)


def _blank(count: int, shape: jax.ShapeDtypeStruct) -> Any:
    """`count` results of a shape that are still to come."""
    if jax.dtypes.issubdtype(shape.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), (count, *shape.shape))
    return jnp.zeros((count, *shape.shape), shape.dtype)


FAST = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""On a CPU, matrix products stay with Eigen. XLA hands those that it fuses with a sum or a transposition to YNNPACK,
and they take up to twice as long (JAX 0.10.2; measured in BUILD_NOTES.md)."""

SOON = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""On a CPU, a program compiles in a third of the time and takes longer: for what runs a few times."""


@functools.cache
def fast_options(soon: bool = False) -> dict[str, Any]:
    """Options of the compiler that make our programs faster than its own choice does; of those that it knows.

    Args:
      soon: let them be compiled soon, too, rather than be fast.
    """
    if jax.default_backend() != "cpu":
        return {}
    known = {}
    for name, value in {**FAST, **(SOON if soon else {})}.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # another version of XLA, without this option
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            known[name] = value
    return known


@functools.cache  # asked for at every call
def _mesh(devices: int, batch_devices: int, members: int) -> Mesh:
    """Rows of devices that share a batch: no more than members; of several processes, as many from each."""
    processes, rows = jax.process_count(), devices // batch_devices
    if processes == 1:
        rows = min(rows, members)
    share = rows * batch_devices // processes
    chosen = np.array([jax.local_devices(process)[:share] for process in range(processes)])
    # Without an axis of one device: where not all axes are of `shard_map`, each operation gets a constraint.
    shape = {MEMBERS: rows} | ({BATCH: batch_devices} if batch_devices > 1 else {})
    return Mesh(chosen.reshape(*shape.values()), tuple(shape), axis_types=(AxisType.Auto,) * len(shape))


def _shares(count: int, rows: int) -> np.ndarray:
    """How many of the members each row of devices has, [rows]; what is missing in the last ones is filled up."""
    each = -(-count // rows)
    return np.clip(count - each * np.arange(rows), 0, each).astype(np.uint32)  # as an index never less than 0


def _filled_up(leaf: jax.Array, rows: int) -> jax.Array:
    """Members that divide among so many rows of devices: behind them copies of the first one."""
    chosen = np.arange(-(-len(leaf) // rows) * rows)
    chosen[len(leaf) :] = 0
    return leaf[chosen] if len(chosen) > len(leaf) else leaf


def _spread(tree: Any, mesh: Mesh, axis: int | None) -> Any:
    """Arrays of this process on the devices that take them, filled up: a program would copy all of them to each."""
    whole, rows = NamedSharding(mesh, PartitionSpec()), mesh.shape[MEMBERS]
    if axis is None:
        return jax.device_put(tree, whole)
    parts = NamedSharding(mesh, PartitionSpec(MEMBERS))

    def spread(leaf):
        if len(leaf) % rows == 0:
            return jax.device_put(leaf, parts)
        return _filling(parts)(jax.device_put(leaf, whole), rows)

    return jax.tree.map(spread, tree)


@functools.cache
def _filling(parts: NamedSharding) -> Callable:
    return jax.jit(_filled_up, static_argnums=1, out_shardings=parts)


def _place(tree: Any, mesh: Mesh, axis: int | None) -> Any:
    """Make arrays that every process has into ones that their devices share; those that are already stay."""

    def place(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf
        if jax.dtypes.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
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
