"""Losses as functions of arrays: per example where the mathematics is, of a batch where it is not."""

from beamkd.losses.combine import Loss, WeightedSum, combine
from beamkd.losses.distillation import feature_matching, kl, mse
from beamkd.losses.inversion import activation, entropy, layer_statistics, metadata
from beamkd.losses.reduce import masked_mean
from beamkd.losses.supervised import cross_entropy, focal

__all__ = [
    "Loss",
    "WeightedSum",
    "activation",
    "combine",
    "cross_entropy",
    "entropy",
    "feature_matching",
    "focal",
    "kl",
    "layer_statistics",
    "masked_mean",
    "metadata",
    "mse",
]
