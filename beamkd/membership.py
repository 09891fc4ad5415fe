"""Whether a network learned from a window: what its metadata and its answers give away, and how well that can be told.

A test gives each window a score, the higher the likelier it was learned from. Who tries it has the network, and windows
of the same road that it did not learn from, the reference.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, Metadata

SMALL = 1e-3
"""Added to the spread of each unit, as a share of the layer's: those that hardly change would rule otherwise."""

FALSE = 0.01
"""Share of other windows that may be taken for members, in `caught`."""


def nearness(
    layers: Mapping[str, Array], summaries: Mapping[str, Metadata], reference: Mapping[str, Metadata]
) -> Array:
    """How much nearer windows are to the owner's means than to those of the reference, [N].

    Mean over all units of ((y − r)² − (y − m)²) / σ²: the test of Homer et al., PLoS Genetics 4, 2008, as it is for
    normal units that are independent (Sankararaman et al., Nature Genetics 41, 2009).

    Args:
      layers: of windows, by name [N, ...].
      summaries: the owner's, by name [...].
      reference: those of the reference.
    """

    def one(name: str) -> Array:
        own, other = summaries[name], reference[name]
        spread = other.variance + SMALL**2 * other.variance.mean()
        nearer = jnp.square(layers[name] - other.mean) - jnp.square(layers[name] - own.mean)
        return (nearer / spread).reshape(len(layers[name]), -1)

    return jnp.concatenate([one(name) for name in summaries], axis=1).mean(1)


def in_order(weights: np.ndarray, scores: np.ndarray, members: np.ndarray, drive: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: how often a member scores higher than another window, a tie being half; [R].

    Args:
      weights: of drives, [R, D].
      scores: of windows, [N].
      members: which of them are members, [N] bool.
      drive: of each the number of its drive, 0 to D − 1, [N].

    Returns:
      [R]; NaN where members or others have no weight.
    """
    higher, count = np.zeros((2, weights.shape[1], weights.shape[1]))
    own, of_own = scores[members], drive[members]
    for other in np.unique(drive[~members]):
        theirs = np.sort(scores[~members & (drive == other)])
        below = (np.searchsorted(theirs, own, "left") + np.searchsorted(theirs, own, "right")) / 2
        np.add.at(higher[:, other], of_own, below)
        np.add.at(count[:, other], of_own, len(theirs))
    found, pairs = (np.einsum("rd,re,de->r", weights, weights, each, optimize=True) for each in (higher, count))
    return np.divide(found, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def caught(
    weights: np.ndarray, scores: np.ndarray, members: np.ndarray, drive: np.ndarray, false: float = FALSE
) -> np.ndarray:
    """Share of members that score higher than all other windows but a share `false`, [R]; the rest as `in_order`."""
    others = np.flatnonzero(~members)[np.argsort(-scores[~members], kind="stable")]
    own = np.flatnonzero(members)[np.argsort(-scores[members], kind="stable")]
    above = np.cumsum(weights[:, drive[others]], axis=1)
    # The first of the others that must not be taken for a member; members count that score higher.
    first = (above <= false * above[:, -1:]).sum(1)
    threshold = scores[others][np.minimum(first, len(others) - 1)]
    taken = np.searchsorted(-scores[own], -threshold, "left")
    found = np.pad(np.cumsum(weights[:, drive[own]], axis=1), ((0, 0), (1, 0)))
    total, there = found[:, -1], above[:, -1] > 0
    share = np.take_along_axis(found, taken[:, None], axis=1)[:, 0]
    return np.divide(share, total, out=np.full(len(weights), np.nan), where=(total > 0) & there)
