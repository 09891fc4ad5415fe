"""Layers that the beam-tracking networks are built from, with the initial weights that PyTorch gives them."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import Array, Encoded, Shared

UNROLLED_STEPS = 16
"""Recurrences up to this long are unrolled: a loop iteration costs XLA more than a small matrix product."""

KEPT = "kept"
"""Name of what is kept of each piece for the gradient: convolutions and pooled maps. The rest is computed again."""

PIECE = 256
"""Frames that a CPU passes through convolutions at once: its caches hold what lies between the layers of so many."""


def uniform_fan_in(fan_in: int) -> Callable[..., Array]:
    """Initialiser: uniform in ±1/√fan_in, PyTorch's default for linear, convolution and GRU weights and biases."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def repeat_rows(row: Array, count: int) -> Array:
    """`count` copies of `row` [D], as [count, D].

    On a CPU a product with ones in place of a broadcast: its gradient then is a product, too. XLA makes a chain of
    windowed sums of the long sum that a broadcast has for its gradient, and this took as long as the gradient of the
    matrix that a bias stands beside.
    """
    return jnp.ones((count, 1), row.dtype) @ row[None] if on_cpu() else jnp.broadcast_to(row, (count, row.size))


def affine(inputs: Array, kernel: Array, bias: Array) -> Array:
    """Product of inputs [..., in] and kernel [in, out], plus bias [out]."""
    rows = inputs.reshape(-1, inputs.shape[-1])  # with more axes XLA's products and sums take longer
    return (rows @ kernel + repeat_rows(bias, rows.shape[0])).reshape(*inputs.shape[:-1], -1)


class Linear(nn.Module):
    """Affine map of the last axis, [..., in] to [..., features]; without `use_bias` a linear one."""

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Map `inputs` [..., in] to [..., features]."""
        init = uniform_fan_in(inputs.shape[-1])
        kernel = self.param("kernel", init, (inputs.shape[-1], self.features))
        if not self.use_bias:
            return (inputs.reshape(-1, inputs.shape[-1]) @ kernel).reshape(*inputs.shape[:-1], -1)
        bias = self.param("bias", init, (self.features,))
        return affine(inputs, kernel, bias)


class Dropout(nn.Module):
    """Zeros for a share `rate` of what comes in, and the rest over 1 − `rate`, where devices may share the batch."""

    rate: float

    @nn.compact
    def __call__(self, inputs: Array, train: bool, axis_name: str | None = None) -> Array:
        """Drop from `inputs` [B, ...] by the 'dropout' stream of random numbers; nothing unless `train`.

        With `axis_name` the rows are this device's share of a batch, and those of all devices get what they would get
        on one: each device draws for the whole batch.
        """
        if not train or self.rate == 0:
            return inputs
        kept = kept_share(self.make_rng("dropout"), self.rate, inputs.shape, axis_name)
        return jnp.where(kept, inputs / (1 - self.rate), 0)


def kept_share(key: Array, rate: float, shape: tuple[int, ...], axis_name: str | None = None) -> Array:
    """What is not dropped of an array [B, ...] of this shape, bool; `key` and B are as of `Dropout`."""
    count = shape[0]
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    kept = jax.random.bernoulli(key, 1 - rate, (devices * count, *shape[1:]))
    if axis_name is None:
        return kept
    return jax.lax.dynamic_slice_in_dim(kept, count * jax.lax.axis_index(axis_name), count)


class Conv1d(nn.Module):
    """Valid convolution along the middle axis, [N, length, in] to [N, (length − width) // stride + 1, features].

    Written as one matrix product of concatenated slices of blocks of `stride` inputs: XLA's own convolution is an order
    of magnitude slower on a CPU, in its gradient above all, and turns into a grouped convolution under `vmap` over
    weights.
    """

    features: int
    width: int = 5
    stride: int = 2

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Convolve `inputs` [N, length, in]."""
        chex.assert_rank(inputs, 3)
        count, length, channels = inputs.shape
        outputs = (length - self.width) // self.stride + 1
        padded = jnp.pad(inputs, ((0, 0), (0, -length % self.stride), (0, 0)))
        blocks = padded.reshape(count, -1, self.stride * channels)  # longer runs of memory than single inputs
        widths = [min(self.stride, self.width - first) for first in range(0, self.width, self.stride)]
        taps = [blocks[:, k : k + outputs, : width * channels] for k, width in enumerate(widths)]
        return Linear(self.features)(jnp.concatenate(taps, axis=-1))


class Gru(nn.Module):
    """Gated recurrent unit from a zero state, in the convention of cuDNN and PyTorch.

    Gates are stacked in the order reset, update, new:
    r, z = σ(W x + b + U h + c), n = tanh(W x + b + r · (U h + c)), h ← (1 − z) n + z h.
    The product W x of all steps is one matrix product ahead of the recurrence.
    """

    hidden: int

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Run over `inputs` [B, S, in]; return the states after each step, [B, S, hidden]."""
        chex.assert_rank(inputs, 3)
        batch, steps, width = inputs.shape
        gates = 3 * self.hidden
        init = uniform_fan_in(self.hidden)
        input_kernel = self.param("input_kernel", init, (width, gates))
        input_bias = self.param("input_bias", init, (gates,))
        state_kernel = self.param("state_kernel", init, (self.hidden, gates))
        state_bias = self.param("state_bias", init, (gates,))

        def step(state, now):
            driven, new_bias = now
            r_in, z_in, n_in = jnp.split(driven, 3, axis=-1)
            r_state, z_state, n_state = jnp.split(state @ state_kernel, 3, axis=-1)
            reset, update = nn.sigmoid(r_in + r_state), nn.sigmoid(z_in + z_state)
            new = jnp.tanh(n_in + reset * (n_state + new_bias))
            state = (1 - update) * new + update * state
            return state, state

        # Biases stay out of the recurrence, where the sum of their gradients over the batch would be one more
        # operation a step: those of reset and update join the inputs', that of the new state comes with each step.
        driven = affine(inputs, input_kernel, input_bias + state_bias.at[2 * self.hidden :].set(0)).swapaxes(0, 1)
        new_bias = repeat_rows(state_bias[2 * self.hidden :], batch * steps).reshape(batch, steps, -1).swapaxes(0, 1)
        start = jnp.zeros((batch, self.hidden), driven.dtype)
        _, states = jax.lax.scan(step, start, (driven, new_bias), unroll=min(steps, UNROLLED_STEPS))
        return states.swapaxes(0, 1)


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al., 2017)."""

    heads: int

    @nn.compact
    def __call__(self, queries: Array, inputs: Array) -> Array:
        """Of `queries` [B, Q, D], each over all `inputs` [B, S, D]: [B, Q, D]."""
        batch, _, width = inputs.shape

        def split(rows):
            return rows.reshape(batch, -1, self.heads, width // self.heads)

        query, key, value = (split(Linear(width)(rows)) for rows in (queries, inputs, inputs))
        found = jax.nn.dot_product_attention(query, key, value)
        return Linear(width)(found.reshape(batch, -1, width))


@contextlib.contextmanager
def as_convolutions() -> Iterator[None]:
    """Trace what is within as for an accelerator: with the operations of the formulas, to count or to export them."""
    token = _AS_CONVOLUTIONS.set(True)
    try:
        yield
    finally:
        _AS_CONVOLUTIONS.reset(token)


_AS_CONVOLUTIONS = contextvars.ContextVar("as_convolutions", default=False)


def on_cpu() -> bool:
    """Whether layers are to be written as a CPU computes them fastest."""
    return jax.default_backend() == "cpu" and not _AS_CONVOLUTIONS.get()


def in_pieces(encoder: nn.Module, frames: Array, piece: int | None = None) -> Array:
    """Codes [N, E] of frames [N, ...]; on a CPU piece by piece if they are many, `piece` frames in each or `PIECE`.

    What convolutions hand to each other is an order of magnitude larger than the frames. That of a large batch goes
    through the memory, which then sets the pace; that of a piece stays in the caches. To compute it a second time for
    the gradient takes less time than to keep it.
    """
    if not on_cpu() or len(frames) < 3 * (piece or PIECE):  # two pieces take longer than the whole
        return encoder(frames)
    count, pieces = len(frames), len(frames) // (piece or PIECE)

    def encode(encoder, carry, piece):
        return carry, encoder(piece)

    padded = jnp.pad(frames, ((0, -count % pieces), *[(0, 0)] * (frames.ndim - 1)))
    strided = padded.reshape(-1, pieces, *frames.shape[1:])
    scan = nn.scan(
        nn.remat(encode, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(KEPT)),
        variable_broadcast="params",
        split_rngs={"params": False},
        in_axes=1,
        out_axes=1,
    )
    _, codes = scan(encoder, None, strided)
    return codes.reshape(-1, codes.shape[-1])[:count]


def encode_frames(encode: Callable[[Array], Array], frames: Array | Shared | Encoded, blank: int) -> Array:
    """Encode each frame of [B, L, ...], then append the code of an all-zero frame `blank` times.

    The zero frames, one for each future slot, are the same for the whole batch and are encoded once; so is each frame
    that windows share. Frames that are encoded already stay as they are.

    Args:
      encode: maps frames [N, ...] to codes [N, E].
      frames: [B, L, ...].
      blank: how many zero frames follow, J.

    Returns:
      Codes, [B, L + J, E].
    """
    batch, length, *shape = frames.shape
    if isinstance(frames, Encoded):
        codes = frames.codes
    elif isinstance(frames, Shared):
        codes = encode(frames.frames)[frames.rows]
    else:
        codes = encode(frames.reshape(batch * length, *shape)).reshape(batch, length, -1)
    if not blank:
        return codes
    tail = jnp.broadcast_to(encode(jnp.zeros((1, *shape), frames.dtype)), (batch, blank, codes.shape[-1]))
    return jnp.concatenate([codes, tail], axis=1)


def count_weights(params) -> int:
    """Number of weights in a pytree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
