"""Datasets that do not fit the device: Grain reads superbatches ahead on the host, compiled passes use them up.

A superbatch is the examples of some consecutive batches. Order, batches, keys and steps are those of a dataset on the
device, so the result is the same to rounding. All arrays here have a leading axis of members.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, Rows, Stream
from beamkd.training.batches import all_rows, evaluation_batches, fitting, over_batches
from beamkd.training.devices import map_members
from beamkd.training.fit import (
    Data,
    FitState,
    Params,
    Task,
    end_epoch,
    epoch_batches,
    start,
    stopped,
    train_pass,
    validation_batches,
    validation_pass,
)
from beamkd.training.hosts import to_host

SUPERBATCH_BYTES = 64 * 2**20
"""Of the examples, of all members together, that are read at once; of LiDAR windows about 8,000."""

AHEAD = 2
"""Superbatches that are ready before they are needed."""


def start_stream(task: Task, params: Params, stream: Stream, train: Rows) -> FitState:
    """The state of all members before the first epoch; as `beamkd.training.start`, which does one."""
    examples = _first(stream, train)

    def one(params, context, examples):
        return start(task, params, stream.prepare(context, examples), all_rows(1))

    return jax.jit(jax.vmap(one))(params, stream.context, examples)


def _first(stream: Stream, rows: Rows) -> Any:
    """The example of the first row of each member, [members, 1, ...]."""
    return stream.read(jax.tree.map(lambda leaf: np.asarray(leaf[:, :1]), to_host(rows)))


def epoch_of_stream(
    task: Task, stream: Stream, over_members: Callable = map_members, axis_name: str | None = None
) -> Callable[..., FitState]:
    """Compile an epoch of all members over a stream.

    Args:
      task: what and how; its `take` gets what `stream.prepare` gives, for instance `beamkd.data.select`.
      stream: the dataset.
      over_members: over_members(function of one member, axes) -> of all, as `map_members` on some devices.
      axis_name: the axis of devices that share each batch, which `over_members` binds.

    Returns:
      epoch(state, keys, train, val) -> the state an epoch later, of stopped members as it was; arguments as in
      `beamkd.training.advance`.
    """

    def train_some(params, opt_state, epoch, context, examples, mask, keys):
        data = stream.prepare(context, examples)
        return train_pass(task, params, opt_state, epoch, data, _rows(mask), keys, axis_name)

    def validate_some(params, context, examples, mask):
        return validation_pass(task, params, stream.prepare(context, examples), _rows(mask), axis_name)

    def end(state, *ended):
        done = stopped(task.config, state)
        return jax.tree.map(lambda before, after: jnp.where(done, before, after), state, end_epoch(state, *ended))

    train_some = over_members(train_some, (0,) * 7)
    validate_some = over_members(validate_some, (0,) * 4)
    shuffle = over_members(functools.partial(epoch_batches, task.config), (0, 0, 0))
    end = jax.jit(jax.vmap(end))

    def epoch(state: FitState, keys: Array, train: Rows, val: Rows | None) -> FitState:
        batches, step_keys = shuffle(keys, state.epoch, train)
        params, opt_state, terms = state.params, state.opt_state, []
        for examples, mask, steps in _superbatches(stream, batches):
            passed = train_some(params, opt_state, state.epoch, stream.context, examples, mask, step_keys[:, steps])
            params, opt_state, some = jax.block_until_ready(passed)  # passes must not queue up, each with its examples
            terms.append(some)
        ended = (params, opt_state, _join(terms, batches), batches.mask)
        if val is not None:
            batches = jax.vmap(functools.partial(validation_batches, task.config))(val)
            ended += (_over(validate_some, params, stream, batches), batches.mask)
        return end(state, *ended)

    return epoch


def map_batches(
    function: Callable[[Params, Any], Any],
    data: Data | Stream,
    take: Callable,
    over_members: Callable = map_members,
    axis_name: str | None = None,
) -> Callable[[Params, Rows], Any]:
    """Compile a function of one batch into one over many rows of a dataset, be it on the device or on the host.

    Args:
      function: function(params, batch) -> arrays.
      data: the dataset, which all members share, or a stream.
      take: take(data, rows) -> batch; of a stream it gets what `prepare` gives.
      over_members: as in `epoch_of_stream`.
      axis_name: the axis of devices that share the batches, likewise; the same bits as on one.

    Returns:
      run(params [members, ...], rows [members, N]) -> results of all batches, [members, batches, ...].
    """

    def on_data(params, data, batches):
        return over_batches(lambda rows: function(params, take(data, rows)), batches, axis_name)

    def on_examples(params, context, examples, mask):
        return on_data(params, data.prepare(context, examples), _rows(mask))

    if isinstance(data, Stream):
        run = over_members(on_examples, (0, 0, 0, 0))

        def over_stream(params, rows):
            example = jax.tree.map(lambda leaf: leaf[0], _first(data, rows))
            return _over(run, params, data, jax.vmap(lambda rows: evaluation_batches(rows, example))(rows))

        return over_stream
    run = over_members(on_data, (0, None, 0))
    example = jax.eval_shape(take, data, all_rows(1))
    return lambda params, rows: run(params, data, jax.vmap(lambda rows: evaluation_batches(rows, example))(rows))


def _over(run: Callable, params: Params, stream: Stream, batches: Rows) -> Any:
    """Results [members, steps, ...] of run(params, context, examples, mask) over all superbatches."""
    results = []
    for examples, mask, _ in _superbatches(stream, batches):
        results.append(jax.block_until_ready(run(params, stream.context, examples, mask)))
    return _join(results, batches)


def _join(results: list[Any], batches: Rows) -> Any:
    """Results of superbatches, [members, steps in each, ...], as those of all batches [members, steps, ...]."""
    count = batches.index.shape[1]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, 1)[:, :count], *results)


def _superbatches(stream: Stream, batches: Rows) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Read the examples of batches [members, steps, B], so many steps at a time, while those before are in use.

    Yields:
      The examples [members, steps · B, ...] of some steps, on the device, their mask [members, steps, B] and the number
      of each step. The last steps are padded, so that one compilation serves all.
    """
    import grain  # here, for it takes 0.4 s to import and few runs stream

    batches = to_host(batches)
    members, count, size = batches.index.shape
    rows = fitting(_first(stream, jax.tree.map(lambda leaf: leaf[:, 0], batches)), count * size, SUPERBATCH_BYTES)
    pieces = -(-count // max(rows // size, 1))
    steps = np.arange(pieces * -(-count // pieces)).reshape(pieces, -1)
    real, steps = steps < count, np.minimum(steps, count - 1)

    def read(piece):
        mask = batches.mask[:, steps[piece]] & real[piece, :, None]
        rows = Rows(batches.index[:, steps[piece]].reshape(members, -1), mask.reshape(members, -1))
        return jax.device_put((stream.read(rows), mask))

    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
    ahead = grain.MapDataset.range(pieces).map(read).to_iter_dataset(reading)
    for piece, (examples, mask) in enumerate(ahead):
        yield examples, mask, steps[piece]


def _rows(mask: Array) -> Rows:
    """The rows of a superbatch in its batches, [steps, B]."""
    return Rows(jnp.arange(mask.size).reshape(mask.shape), mask)
