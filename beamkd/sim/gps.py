"""The satellite receiver of the served car: positions with the errors that receivers make."""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from beamkd.base import SLOT_SECONDS, Array, expect_at_least
from beamkd.sim.street import Street, Traffic


@dataclasses.dataclass(frozen=True)
class Receiver:
    """Errors of a consumer's receiver, standard deviations along each axis.

    Attributes:
      bias: m, that stays while a drive lasts.
      drift: m, that comes and goes within `lasting`.
      lasting: s, after which a drift has faded to 1/e.
      noise: m, of each position by itself.
    """

    bias: float = 1.0
    drift: float = 0.5
    lasting: float = 30.0
    noise: float = 0.1

    def __post_init__(self):
        expect_at_least(self, bias=0, drift=0, noise=0)
        expect_at_least(self, lasting=1e-3)


def observe(key: Array, traffic: Traffic, street: Street) -> Array:
    """What the served car's receiver says in a drive, [T, 2] m."""
    drive = jnp.zeros(street.max_frames, int)
    return gps_fixes(key, traffic.antenna, drive, slot_seconds=street.slot_seconds)


def gps_fixes(
    key: Array, position: Array, drive: Array, receiver: Receiver = Receiver(), slot_seconds: float = SLOT_SECONDS
) -> Array:
    """What a receiver says of true positions.

    Bias and drift are drawn for each drive by its number; the drift is a first-order Gauss-Markov process (Gelb,
    Applied Optimal Estimation, ch. 3).

    Args:
      key: PRNG key of the errors.
      position: [F, 2] float32, m.
      drive: [F] int32, number of the drive that a frame belongs to; its frames stand together, a slot apart.
      receiver: its errors.
      slot_seconds: s between frames.

    Returns:
      [F, 2] float32, m.
    """
    chex.assert_shape(position, (len(drive), 2))
    bias_key, drift_key, noise_key = jax.random.split(key, 3)
    keeps = jnp.exp(-slot_seconds / receiver.lasting)

    def step(drift, frame):
        fresh, first = frame
        drift = jnp.where(first, fresh, keeps * drift + jnp.sqrt(1 - keeps**2) * fresh)
        return drift, drift

    first = jnp.append(True, drive[1:] != drive[:-1])
    white = jax.random.normal(drift_key, position.shape)
    _, drift = jax.lax.scan(step, jnp.zeros(2), (white, first))
    bias = jax.vmap(lambda number: jax.random.normal(jax.random.fold_in(bias_key, number), (2,)))(drive)
    noise = jax.random.normal(noise_key, position.shape)
    return position + receiver.bias * bias + receiver.drift * drift + receiver.noise * noise
