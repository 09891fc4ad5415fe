"""Flax modules as functions of batches, which is how training, distillation and inversion know them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from beamkd.base import Batch, Forward


def network(
    module: nn.Module,
    inputs: Callable[[Batch], Any],
    dtype: DTypeLike = jnp.float32,
    predicted_only: bool = False,
) -> Forward:
    """A beam-tracking module as a function forward(params, batch, key=None, axis_name=None) -> Output.

    It predicts as many slots ahead as the batch has labels for.

    Args:
      module: its `apply` takes what `inputs` gives, `future` and `train`; `slots` for `predicted_only`; and `axis_name`
        where devices share a batch.
      inputs: what of a batch the module takes, for instance `beamkd.data.sensor_input("lidar")`.
      dtype: to compute in, for instance `jnp.bfloat16` on an accelerator. Weights, their gradients and what comes out
        stay float32.
      predicted_only: return the logits of the J + 1 predicted slots alone, [B, J + 1, M], which saves the others'
        read-out.
    """

    def forward(params, batch, key=None, **axis):
        slots = batch.labels.shape[1]
        rngs = None if key is None else {"dropout": key}
        options = {"future": slots - 1} | ({"slots": slots} if predicted_only else {})
        cast_params, cast_inputs = _cast((params, inputs(batch)), dtype)
        output = module.apply(cast_params, cast_inputs, train=key is not None, rngs=rngs, **options, **axis)
        return _cast(output, jnp.float32)

    return forward


def _cast(tree, dtype: DTypeLike):
    """The same pytree with its floating-point leaves in `dtype`."""

    def cast(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)
