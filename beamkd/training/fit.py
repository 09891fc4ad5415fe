"""Training as a pure function: a loop over epochs, each a scan over batches, in one compiled program.

`fit` and its parts take one member (a seed, a generator, a node); `jax.vmap` makes many. Early stopping then is a mask:
the loop goes on until all members have stopped, and those that have keep their state.

With `axis_name`, devices along that axis of `jax.pmap`, `jax.vmap` or `map_members` share each batch: all have the same
arguments and return the same results, those of one device to rounding. Each takes its share of the rows of a training
batch, and whole batches of the validation.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from flax import struct

from beamkd.base import Array, InputError, Rows, expect_at_least
from beamkd.training.batches import in_batches, over_batches, own_share, shuffled

Params = Any
Data = Any
StepLoss = Callable[..., tuple[Array, dict[str, Array]]]
"""loss(params, batch, key, axis_name=None) -> (a scalar, its parts by name). Without a key: no dropout, as validation
wants it. `axis_name` is given only where devices along that axis share a batch: `batch` then is the share of one, and
the loss is that of all."""

Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["cosine", "steps", "constant"]


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How to train: optimizer, learning rate over the epochs, early stopping."""

    epochs: int = 100
    """At most this many."""
    batch_size: int = 64
    patience: int = 10
    """Epochs without a better validation loss after which training stops; 0: never."""
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    """Reached by the cosine after `epochs`."""
    l2: float = 1e-4
    """Times the weights, added to the gradient; with adamw to the step, times the learning rate."""
    clip: float = 1.0
    """Greatest global norm of the gradient; 0: no limit."""
    optimizer: Optimizer = "adam"
    """Adam (Kingma and Ba, 2015), the same with decoupled weight decay (Loshchilov and Hutter, 2019), or SGD."""
    momentum: float = 0.9
    """Of SGD."""
    schedule: Schedule = "cosine"
    """Of the learning rate over the epochs."""
    milestones: tuple[int, ...] = ()
    """Epochs after which 'steps' multiplies the learning rate by `decay`."""
    decay: float = 0.1

    def __post_init__(self):
        expect_at_least(self, epochs=1, batch_size=1, patience=0, l2=0, clip=0, momentum=0, decay=0)
        for name, known in {"optimizer": Optimizer, "schedule": Schedule}.items():
            if getattr(self, name) not in get_args(known):
                raise InputError(f"{name}: expected one of {', '.join(get_args(known))}, found {getattr(self, name)}")
        if not isinstance(self.milestones, tuple) or min(self.milestones, default=1) < 1:
            raise InputError(f"milestones: expected a tuple of epochs, 1 or more, found {self.milestones}")
        if bool(self.milestones) != (self.schedule == "steps"):
            raise InputError(f"milestones: expected some with the schedule 'steps' only, found {self.milestones}")
        if self.momentum >= 1:
            raise InputError(f"momentum: expected less than 1, found {self.momentum}")
        if not float("inf") > self.learning_rate >= self.final_learning_rate >= 0 or self.learning_rate == 0:
            found = f"{self.learning_rate} and {self.final_learning_rate}"
            raise InputError(f"learning_rate: expected more than 0 and no less than final_learning_rate, found {found}")


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained, apart from arrays.

    Attributes:
      loss: of a batch; see `StepLoss`.
      take: take(data, rows) -> the batch that `loss` gets.
      config: how.
    """

    loss: StepLoss
    take: Callable[[Data, Rows], Any]
    config: FitConfig = FitConfig()


@struct.dataclass
class FitState:
    """Training after some epochs; all that a checkpoint needs.

    Attributes:
      params: the weights now.
      opt_state: the optimizer's state.
      best: the weights of the epoch with the least validation loss; without validation, the last ones.
      best_loss: that loss, float32.
      best_epoch: that epoch, int32, from 1.
      epoch: epochs done, int32.
      history: mean of the loss ('loss'), of its parts by name and the validation loss ('val') in each epoch, [epochs];
        NaN from where training stopped.
    """

    params: Params
    opt_state: Any
    best: Params
    best_loss: Array
    best_epoch: Array
    epoch: Array
    history: dict[str, Array]


def start(task: Task, params: Params, data: Data, train: Rows) -> FitState:
    """State before the first epoch; `data` and `train` only tell the shapes."""
    batch = jax.tree.map(lambda leaf: leaf[: task.config.batch_size], train)

    def terms(params, data, rows, key):
        return task.loss(params, task.take(data, rows), key)[1]

    names = jax.eval_shape(terms, params, data, batch, jax.random.key(0))
    return FitState(
        params=params,
        opt_state=optimizer_of(task.config).init(params),
        best=params,
        best_loss=jnp.float32(jnp.inf),
        best_epoch=jnp.int32(0),
        epoch=jnp.int32(0),
        history={name: jnp.full(task.config.epochs, jnp.nan, jnp.float32) for name in ["loss", "val", *names]},
    )


def advance(
    task: Task,
    state: FitState,
    key: Array,
    data: Data,
    train: Rows,
    val: Rows | None,
    until: int | Array,
    axis_name: str | None = None,
) -> FitState:
    """Train until epoch `until`, or to the end if that comes first.

    Args:
      task: what and how, static.
      state: from `start` or `advance`.
      key: of the whole training, the same in every call; each epoch derives its own.
      data: whatever `task.take` takes; arrays here, rather than captured by the loss.
      train: the rows to train on, shuffled each epoch. Padded ones have no effect, nor have batches of padding alone.
      val: the rows whose mean loss chooses the best epoch and stops early; None to do without.
      until: epoch, may be traced.
      axis_name: the axis of devices that share each batch.

    Returns:
      The state then.
    """

    def going(state):
        return (state.epoch < until) & ~stopped(task.config, state)

    return jax.lax.while_loop(going, lambda state: _epoch(task, state, key, data, train, val, axis_name), state)


def stopped(config: FitConfig, state: FitState) -> Array:
    """Whether training has ended, of one member or of several stacked."""
    out_of_patience = (state.epoch - state.best_epoch >= config.patience) & (config.patience > 0)
    return (state.epoch >= config.epochs) | out_of_patience


def fit(
    task: Task,
    key: Array,
    params: Params,
    data: Data,
    train: Rows,
    val: Rows | None = None,
    axis_name: str | None = None,
) -> FitState:
    """Train from `params` to the end; arguments as in `advance`. `.best` of the result are the weights to use."""
    return advance(task, start(task, params, data, train), key, data, train, val, task.config.epochs, axis_name)


def epoch_batches(config: FitConfig, key: Array, epoch: Array, train: Rows) -> tuple[Rows, Array]:
    """The batches of an epoch in an order of its own, [steps, B], and a key for each, [steps]."""
    order_key, steps_key = jax.random.split(jax.random.fold_in(key, epoch))
    batches = in_batches(shuffled(order_key, train), config.batch_size)
    return batches, jax.random.split(steps_key, batches.index.shape[0])


def validation_batches(config: FitConfig, val: Rows) -> Rows:
    """The rows of `val` in batches, [steps, B]."""
    return in_batches(val, 4 * config.batch_size)  # no gradients to keep: larger batches, fewer steps


def train_pass(
    task: Task,
    params: Params,
    opt_state: Any,
    epoch: Array,
    data: Data,
    batches: Rows,
    keys: Array,
    axis_name: str | None = None,
) -> tuple[Params, Any, dict[str, Array]]:
    """Train on some batches, one after the other: all of an epoch, or a part of it.

    Args:
      task: what and how, static.
      params: the weights.
      opt_state: the optimizer's state.
      epoch: epochs done, which gives the learning rate.
      data: whatever `task.take` takes.
      batches: rows, [steps, B]. Batches of padding alone have no effect.
      keys: [steps].
      axis_name: the axis of devices that share each batch.

    Returns:
      The weights, the optimizer's state, and the loss and its parts in each step, [steps].
    """
    optimizer = optimizer_of(task.config)
    rate = _learning_rate(task.config, epoch)
    axis = {} if axis_name is None else {"axis_name": axis_name}

    @functools.partial(jax.jit, inline=True)  # traced once for its shapes and the loop
    def learn(carry, rows, step_key):
        params, opt_state = carry
        batch = task.take(data, own_share(rows, axis_name))
        (loss, parts), gradient = jax.value_and_grad(task.loss, has_aux=True)(params, batch, step_key, **axis)
        if axis_name is not None:
            # Each device has the gradient of the sum of all devices' losses, which are the same, by its own share.
            gradient = jax.lax.pmean(gradient, axis_name)
        direction, opt_state = optimizer.update(gradient, opt_state, params)
        params = jax.tree.map(lambda weight, update: weight - rate * update, params, direction)
        return (params, opt_state), {"loss": loss, **parts}

    def step(carry, inputs):
        rows, step_key = inputs
        _, terms = jax.eval_shape(learn, carry, rows, step_key)
        passed = carry, jax.tree.map(lambda term: jnp.full(term.shape, jnp.nan, term.dtype), terms)
        # Members that run one after another pass over padding in no time.
        return jax.lax.cond(rows.mask.any(), learn, lambda *_: passed, carry, rows, step_key)

    (params, opt_state), terms = jax.lax.scan(step, (params, opt_state), (batches, keys))
    return params, opt_state, terms


def validation_pass(task: Task, params: Params, data: Data, batches: Rows, axis_name: str | None = None) -> Array:
    """Loss of each batch [steps, B] without dropout, [steps]."""
    return over_batches(lambda rows: task.loss(params, task.take(data, rows), None)[0], batches, axis_name)


def end_epoch(
    state: FitState,
    params: Params,
    opt_state: Any,
    terms: dict[str, Array],
    mask: Array,
    val_losses: Array | None = None,
    val_mask: Array | None = None,
) -> FitState:
    """The state after an epoch from that before it.

    Args:
      state: before the epoch.
      params: the weights now.
      opt_state: the optimizer's state now.
      terms: the loss and its parts in each of the epoch's steps, [steps].
      mask: which rows of each batch are no padding, [steps, B].
      val_losses: the validation loss of each batch, [steps']; None without validation.
      val_mask: [steps', B'], likewise.
    """
    terms = {name: _mean(values, mask) for name, values in terms.items()}
    epoch = state.epoch + 1
    if val_losses is None:
        best, best_loss, best_epoch = params, terms["loss"], epoch
        terms["val"] = jnp.nan
    else:
        terms["val"] = _mean(val_losses, val_mask)
        better = terms["val"] < state.best_loss
        best, best_loss, best_epoch = where(
            better, (params, terms["val"], epoch), (state.best, state.best_loss, state.best_epoch)
        )
    history = {name: state.history[name].at[state.epoch].set(value) for name, value in terms.items()}
    return FitState(params, opt_state, best, best_loss, best_epoch, epoch, history)


def _epoch(
    task: Task, state: FitState, key: Array, data: Data, train: Rows, val: Rows | None, axis_name: str | None
) -> FitState:
    batches, keys = epoch_batches(task.config, key, state.epoch, train)
    params, opt_state, terms = train_pass(
        task, state.params, state.opt_state, state.epoch, data, batches, keys, axis_name
    )
    if val is None:
        return end_epoch(state, params, opt_state, terms, batches.mask)
    held_out = validation_batches(task.config, val)
    losses = validation_pass(task, params, data, held_out, axis_name)
    return end_epoch(state, params, opt_state, terms, batches.mask, losses, held_out.mask)


def optimizer_of(config: FitConfig) -> optax.GradientTransformation:
    """The optimizer without its learning rate: this follows the epochs, and is applied with the step."""
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    decay = optax.add_decayed_weights(config.l2)
    if config.optimizer == "adamw":
        return optax.chain(clip, optax.scale_by_adam(), decay)
    return optax.chain(
        clip, decay, optax.scale_by_adam() if config.optimizer == "adam" else optax.trace(config.momentum)
    )


def _learning_rate(config: FitConfig, epoch: Array) -> Array:
    rate = config.learning_rate
    if config.schedule == "constant":
        return jnp.float32(rate)
    if config.schedule == "steps":
        return optax.piecewise_constant_schedule(rate, dict.fromkeys(config.milestones, config.decay))(epoch)
    return optax.cosine_decay_schedule(rate, config.epochs, config.final_learning_rate / rate)(epoch)


def _mean(values: Array, mask: Array) -> Array:
    """Mean of each batch's value, [steps], weighted by how many rows it has."""
    counts = mask.sum(-1)
    return jnp.where(counts > 0, values * counts, 0).sum() / jnp.maximum(counts.sum(), 1)


def where(condition: Array, yes: Any, no: Any) -> Any:
    """One pytree or the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
