"""Sensors that fail: networks that meet it in training, and networks whose sensor fails when they are tested.

A sensor that is missing gives all-zero frames, as slots do that are not seen yet.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import Array, InputError, Model, Output
from beamkd.models.layers import kept_share

NOISE_KEY = 0
"""Of the noise of a noisy sensor, the same for every batch."""


def missing(frames: Array) -> Array:
    """Zeros in place of frames [B, L, ...]."""
    return jnp.zeros_like(frames)


def frozen(frames: Array) -> Array:
    """The first of frames [B, L, ...] in place of all: a sensor that has stood still since."""
    return jnp.broadcast_to(frames[:, :1], frames.shape)


def noisy(frames: Array) -> Array:
    """Frames [B, L, ...] with Gaussian noise as strong as what they show: of a window's own deviation."""
    noise = jax.random.normal(jax.random.key(NOISE_KEY), frames.shape, frames.dtype)
    return frames + jnp.std(frames, range(1, frames.ndim), keepdims=True) * noise


FAILURES: Mapping[str, Callable[[Array], Array]] = {"missing": missing, "frozen": frozen, "noisy": noisy}
"""By name: frames [B, L, ...] as networks take them, to those of a sensor that has failed."""


class Failing(nn.Module):
    """A network some of whose sensors fail: one program for all failures. See `failing`.

    Its weights are the network's, under 'network', and under 'failures' by sensor how it fails, int32: 0, not at all;
    or the place of one of `FAILURES`, from 1.
    """

    network: nn.Module

    @nn.compact
    def __call__(self, frames: Any, **options: Any) -> Output:
        """The network's output; arguments as of the network, of one sensor or of several by name."""
        if not isinstance(frames, Mapping):
            return self.network(self._seen("only", frames), **options)
        return self.network({name: self._seen(name, seen) for name, seen in frames.items()}, **options)

    def _seen(self, sensor: str, frames: Array) -> Array:
        failure = self.variable("failures", sensor, jnp.int32, 0).value
        return jax.lax.switch(failure, [lambda frames: frames, *FAILURES.values()], frames)


def failing(model: Model, sensor: str, failure: str) -> Model:
    """A network one of whose sensors fails, out of `FAILURES`.

    Args:
      model: with weights [members, ...].
      sensor: which.
      failure: how.

    Raises:
      InputError: an unknown failure, or a sensor that the network does not have.
    """
    if failure not in FAILURES:
        raise InputError(f"failure: expected one of {', '.join(FAILURES)}, found {failure}")
    if sensor not in model.inputs:
        raise InputError(f"sensor: expected one of {', '.join(model.inputs)}, found {sensor}")
    members = len(jax.tree.leaves(model.params)[0])
    number = 1 + [*FAILURES].index(failure)
    states = {name: jnp.full(members, number * (name == sensor), jnp.int32) for name in model.inputs}
    states = states if len(states) > 1 else {"only": states[sensor]}
    params = {"params": {"network": model.params["params"]}, "failures": states}
    return Model(Failing(model.module), params, model.inputs)


class SensorDropout(nn.Module):
    """Leaves out sensors of a window at random (Neverova et al., "ModDrop", 2016).

    Each with probability `rate`, and independently; where that would be all of them, none.
    """

    rate: float

    @nn.compact
    def __call__(self, codes: Array, blank: Array, train: bool, axis_name: str | None = None) -> Array:
        """Codes [B, sensors, L, E], in place of some those of an all-zero frame, `blank` [sensors, E]."""
        if not train or self.rate == 0:
            return codes
        kept = kept_share(self.make_rng("dropout"), self.rate, codes.shape[:2], axis_name)
        kept |= ~kept.any(1, keepdims=True)
        return jnp.where(kept[..., None, None], codes, blank[:, None])
