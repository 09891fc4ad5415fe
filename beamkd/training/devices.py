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
      batch_devices: how many of them share each member's batches, where `function` says so by `spread_batch`.
      compiler_options: of `jax.jit`, for instance `fast_options()`; the result then cannot be called within a jitted
        function.

    Returns:
      A compiled function whose results have a leading axis of members. With several processes all must call it, each
      with the same arguments: arrays of its own, of which only its devices' share is copied there, or earlier results.
    """
    if devices == 1:
        return jax.jit(_on_a_device(function, axes), compiler_options=compiler_options)

    @functools.partial(jax.jit, compiler_options=compiler_options)
    def run(*args):
        count = _count_members(axes, args)
        mesh = _mesh(devices, batch_devices, count)
        rows = mesh.shape[MEMBERS]
        chosen = np.arange(-(-count // rows) * rows)
        chosen[count:] = 0

        def fill(axis, tree):
            return tree if axis is None else jax.tree.map(lambda leaf: leaf[chosen], tree)

        if mesh.size == 1:
            return _on_a_device(function, axes)(*args)
        if len(chosen) == count:
            return _over_rows(function, axes, mesh)(*args)
        there = np.arange(len(chosen)) < count
        return _over_rows(_unless_missing(function), (0, *axes), mesh)(there, *_map_prefix(fill, axes, args))

    mesh = None if jax.process_count() == 1 else _mesh(devices, batch_devices)

    def run_and_cut(*args):
        count = _count_members(axes, args)
        if mesh is not None:
            args = _map_prefix(lambda axis, tree: _place(tree, mesh, axis), axes, args)
        results = run(*args)
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
    """`function` of one member as one of all, the same number on each row of devices."""
    axes = tuple(axes)
    spread = PartitionSpec(MEMBERS)
    specs = jax.tree.map(lambda axis: PartitionSpec() if axis is None else spread, axes, is_leaf=_is_none)
    members = _on_a_device(function, axes)
    return jax.shard_map(members, mesh=mesh, in_specs=specs, out_specs=spread, axis_names={MEMBERS}, check_vma=False)


def _on_a_device(function: Callable, axes: Sequence[Any]) -> Callable:
    """`function` of one member as one of all, on a device: a CPU takes one member after another."""
    axes = tuple(axes)
    if jax.default_backend() != "cpu":
        return jax.vmap(function, axes)

    def run(*args):
        def one(own):
            merged = jax.tree.map(
                lambda axis, mine, shared: shared if axis is None else mine, axes, own, args, is_leaf=_is_none
            )
            return function(*merged)

        return jax.lax.map(one, _map_prefix(lambda axis, tree: None if axis is None else tree, axes, args))

    return run


def _unless_missing(function: Callable) -> Callable:
    """`function`, but of a member that is not there something of the right shape at no cost."""

    def blank(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    def guarded(there, *args):
        shapes = jax.eval_shape(function, *args)
        return jax.lax.cond(there, function, lambda *_: jax.tree.map(blank, shapes), *args)

    return guarded


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


def _mesh(devices: int, batch_devices: int, members: int | None = None) -> Mesh:
    """Rows of devices that share a batch: no more than members; of several processes, as many from each."""
    processes, rows = jax.process_count(), devices // batch_devices
    if processes == 1 and members is not None:
        rows = min(rows, members)
    share = rows * batch_devices // processes
    chosen = np.array([jax.local_devices(process)[:share] for process in range(processes)])
    return Mesh(chosen.reshape(rows, batch_devices), (MEMBERS, BATCH), axis_types=(AxisType.Auto,) * 2)


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
