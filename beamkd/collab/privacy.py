"""Gaussian noise on what leaves a node, and what it guarantees."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from beamkd.base import Array, InputError


@dataclasses.dataclass(frozen=True)
class Noise:
    """The Gaussian mechanism on each message of a node (Dwork and Roth, 2014; clipping as in Abadi et al., CCS 2016).

    It protects all of a node's data at once, and against the centre, too: noise is added where the message is made.
    """

    clip: float = 1.0
    """C: greatest L2 norm of the floating-point numbers of a message; longer ones are shortened to it."""
    multiplier: float = 1.0
    """σ: deviation of the noise over C."""

    def __post_init__(self):
        for name in ("clip", "multiplier"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"noise.{name}: expected a finite number of more than 0, found {getattr(self, name)}")

    def added(self, key: Array, message: Any) -> Any:
        """A message, clipped and with noise; whole numbers stay as they are, and are not protected."""
        leaves, tree = jax.tree.flatten(message)
        real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
        norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf, is_real in zip(leaves, real, strict=True) if is_real))
        shorter = jnp.minimum(1, self.clip / jnp.maximum(norm, jnp.finfo(jnp.float32).tiny))

        def noisy(number, leaf):
            noise = jax.random.normal(jax.random.fold_in(key, number), leaf.shape, leaf.dtype)
            return shorter * leaf + self.multiplier * self.clip * noise

        changed = [noisy(*each) if is_real else each[1] for each, is_real in zip(enumerate(leaves), real, strict=True)]
        return jax.tree.unflatten(tree, changed)

    def epsilon(self, rounds: int, delta: float = 1e-5) -> float:
        """ε of (ε, δ)-differential privacy after so many messages, by Rényi accounting (extra 'privacy').

        Neighbours differ in all data of one node, by which a message changes by 2 C at most.

        Raises:
          InputError: `dp-accounting` is not installed.
        """
        try:
            from dp_accounting import GaussianDpEvent  # here, for only some users have it
            from dp_accounting.rdp import RdpAccountant
        except ImportError:
            raise InputError('noise: expected dp-accounting, found none; pip install "beamkd[privacy]"') from None
        accountant = RdpAccountant()
        accountant.compose(GaussianDpEvent(self.multiplier / 2), rounds)
        return accountant.get_epsilon(delta)
