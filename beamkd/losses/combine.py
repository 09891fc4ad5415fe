"""A weighted sum of named losses, which is itself a loss."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from beamkd.base import Array

Loss = Callable[..., Array]


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedSum:
    """What `combine` returns.

    Attributes:
      terms: by name, each its weight and its loss.
    """

    terms: Mapping[str, tuple[float, Loss]]

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Array, dict[str, Array]]:
        """The weighted sum, and the terms by name, unweighted.

        Raises:
          TypeError: an argument that no term takes, or one that a term lacks; `axis_name` is given, and a term does not
            take it, so that its means would be of a part of the batch.
        """
        takes = self._takes
        unknown = [name for name in kwargs if not self.takes(name)]
        if unknown:
            raise TypeError(f"combine: no term of {', '.join(takes)} takes {', '.join(sorted(unknown))}")
        parts = {}
        for name, (_, term) in self.terms.items():
            wanted = takes[name]
            if "axis_name" in kwargs and wanted is not None and "axis_name" not in wanted:
                raise TypeError(f"combine: expected {name} to take axis_name, for devices share the batch")
            parts[name] = term(*args, **{k: v for k, v in kwargs.items() if wanted is None or k in wanted})
        return sum(weight * parts[name] for name, (weight, _) in self.terms.items()), parts

    def takes(self, name: str) -> bool:
        """Whether a term takes an argument of this name."""
        return any(wanted is None or name in wanted for wanted in self._takes.values())

    @functools.cached_property
    def _takes(self) -> dict[str, set[str] | None]:
        """What each term takes, by its name."""
        return {name: _keywords(loss) for name, (_, loss) in self.terms.items()}

    def of(self, axis_name: str | None = None, **known: Any) -> tuple[Array, dict[str, Array]]:
        """As a call, but what no term takes may be given, too."""
        axis = {} if axis_name is None else {"axis_name": axis_name}
        return self(**{name: value for name, value in known.items() if self.takes(name)}, **axis)


def combine(**terms: tuple[float, Loss]) -> WeightedSum:
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
      ValueError: no terms.
    """
    if not terms:
        raise ValueError("combine: expected at least one name=(weight, loss), found none")
    return WeightedSum(terms)


def _keywords(loss: Loss) -> set[str] | None:
    """Names that `loss` takes; None if it takes any."""
    parameters = inspect.signature(loss).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
