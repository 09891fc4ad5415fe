"""Flax modules as functions of batches, which is how training, distillation and inversion know them."""

from collections.abc import Callable

from flax import linen as nn

from beamkd.base import FUTURE, Array, Batch, Forward


def network(
    module: nn.Module, inputs: Callable[[Batch], Array], future: int = FUTURE, predicted_only: bool = False
) -> Forward:
    """A beam-tracking module as a function forward(params, batch, key=None) -> Output.

    Args:
      module: its `apply` takes inputs [B, L, ...], `future` and `train`, and `slots` for `predicted_only`.
      inputs: what of a batch the module takes, for instance `beamkd.data.lidar_input`.
      future: J, the slots to predict ahead.
      predicted_only: return the logits of the J + 1 predicted slots alone, [B, J + 1, M], which saves the others'
        read-out.
    """
    options = {"future": future} | ({"slots": future + 1} if predicted_only else {})

    def forward(params, batch, key=None):
        rngs = None if key is None else {"dropout": key}
        return module.apply(params, inputs(batch), train=key is not None, rngs=rngs, **options)

    return forward
