"""A weighted sum of named losses, which is itself a loss."""

import inspect
from collections.abc import Callable

from beamkd.base import Array

Loss = Callable[..., Array]
WeightedLoss = Callable[..., tuple[Array, dict[str, Array]]]


def combine(**terms: tuple[float, Loss]) -> WeightedLoss:
    """Add up named losses.

    A term names what it needs by its own arguments and gets just that, so terms of unlike signatures add up:

        generator_loss = combine(metadata=(1.0, metadata), activation=(0.1, activation), entropy=(0.5, entropy))
        total, parts = generator_loss(features=f, logits=z, mean=m, variance=v)

    Args:
      **terms: name=(weight, loss). Results of the losses must broadcast to one another.

    Returns:
      A function of keyword arguments, or of positional ones that every term takes alike, which returns the weighted
      sum and the terms by name, unweighted.

    Raises:
      ValueError: no terms. TypeError, when called: an argument that no term takes, or one that a term lacks.
    """
    if not terms:
        raise ValueError("combine: expected at least one name=(weight, loss), found none")
    takes = {name: _keywords(loss) for name, (_, loss) in terms.items()}

    def loss(*args, **kwargs):
        unknown = set(kwargs).difference(*takes.values()) if None not in takes.values() else set()
        if unknown:
            raise TypeError(f"combine: no term of {', '.join(terms)} takes {', '.join(sorted(unknown))}")
        parts = {}
        for name, (_, term) in terms.items():
            wanted = takes[name]
            parts[name] = term(*args, **{k: v for k, v in kwargs.items() if wanted is None or k in wanted})
        return sum(weight * parts[name] for name, (weight, _) in terms.items()), parts

    return loss


def _keywords(loss: Loss) -> set[str] | None:
    """Names that `loss` takes; None if it takes any."""
    parameters = inspect.signature(loss).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
