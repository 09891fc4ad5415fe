"""Sequences by weights under which they look to a teacher as its owner's windows did; nothing is generated."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from beamkd.base import Array, Metadata

FAR = 4.0
"""Of the owner's standard deviations: what is farther from the owner's mean counts as so far."""

STEPS = 40
"""Of L-BFGS: the loss is convex and smooth."""


def matching_weights(
    layers: Mapping[str, Array], summaries: Mapping[str, Metadata], ridge: float = 1.0, steps: int = STEPS
) -> tuple[Array, Array]:
    """Weights of sequences that have the owner's mean and variance in each unit, and are else as equal as can be.

    Of all weights of given moments those of greatest entropy are exponential in them (Jaynes, Physical Review 106,
    1957). Their multipliers minimise a convex loss, which `ridge` keeps from matching what few sequences can match
    (Dudík et al., JMLR 8, 2007).

    Args:
      layers: by name [N, ...], what the teacher makes of the sequences.
      summaries: by name [...], the owner's means and variances.
      ridge: weight of the multipliers' squares, per unit.
      steps: of the solver.

    Returns:
      Weights [N] that sum to 1; and the loss after each step, [steps].
    """
    units = jnp.concatenate([_standard(layers[name], own) for name, own in summaries.items()], axis=1)
    count, size = units.shape

    def tilt(multipliers):
        first, second = multipliers
        return units @ first + (jnp.square(units) - 1) @ second

    def loss(multipliers):
        squares = sum(jnp.sum(jnp.square(part)) for part in multipliers)
        return jax.nn.logsumexp(tilt(multipliers)) - jnp.log(count) + 0.5 * ridge * squares

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry, _):
        multipliers, state = carry
        value, grad = value_and_grad(multipliers, state=state)
        update, state = solver.update(grad, state, multipliers, value=value, grad=grad, value_fn=loss)
        return (optax.apply_updates(multipliers, update), state), value

    start = jnp.zeros(size), jnp.zeros(size)
    (multipliers, _), losses = jax.lax.scan(step, (start, solver.init(start)), length=steps)
    return jax.nn.softmax(tilt(multipliers)), losses


def resample(key: Array, weights: Array, count: int) -> Array:
    """So many indices [count] by weights [N], each as often as it is due, but for one (systematic resampling)."""
    places = (jnp.arange(count) + jax.random.uniform(key)) / count
    chosen = jnp.searchsorted(jnp.cumsum(weights) / weights.sum(), places)
    return jnp.minimum(chosen, len(weights) - 1)


def effective(weights: Array) -> Array:
    """How many equal weights are worth as much, [] (Kish)."""
    return jnp.square(weights.sum()) / jnp.square(weights).sum()


def _standard(values: Array, owner: Metadata) -> Array:
    """Values [N, ...] in the owner's standard deviations from its mean, [N, units]."""
    spread = jnp.sqrt(owner.variance) + 1e-6
    return jnp.clip((values - owner.mean) / spread, -FAR, FAR).reshape(len(values), -1)
