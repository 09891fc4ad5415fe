"""Losses of a student's layers against its teacher's, of a whole batch.

They name what they take of both networks' `Output`, as terms of `beamkd.distill` do. A student whose layers have other
shapes than its teacher's is wrapped in `beamkd.models.Matched`.
"""

from beamkd.base import Array
from beamkd.losses.distillation import feature_matching
from beamkd.losses.reduce import masked_mean


def match_codes(codes: Array, teacher_codes: Array, mask: Array, axis_name: str | None = None) -> Array:
    """Mean squared error between the codes of frames, what goes into the recurrent layer (arXiv 2603.16116).

    Args:
      codes: [B, L, E].
      teacher_codes: of the same shape.
      mask: [B], False for rows that only fill the batch.
      axis_name: as in `masked_mean`.

    Returns:
      A scalar.
    """
    return masked_mean(feature_matching(codes, teacher_codes), mask, axis_name=axis_name)


def match_states(states: Array, teacher_states: Array, mask: Array, axis_name: str | None = None) -> Array:
    """The same of the states [B, S, D] of the recurrent layer, what comes out of it."""
    return masked_mean(feature_matching(states, teacher_states), mask, axis_name=axis_name)
