"""Losses as functions of arrays: per example where the mathematics is, of a batch where it is not."""

from beamkd.losses.combine import Loss, WeightedSum, combine
from beamkd.losses.distillation import feature_matching, kl, mse, slot_weighted
from beamkd.losses.features import match_codes, match_states
from beamkd.losses.inversion import activation, entropy, layer_statistics, metadata
from beamkd.losses.reduce import masked_mean
from beamkd.losses.relational import angle_relations, cosine_relations, distance_relations
from beamkd.losses.supervised import cross_entropy, focal
from beamkd.losses.targets import neighbour_targets, power_targets, soft_cross_entropy

__all__ = [
    "Loss",
    "WeightedSum",
    "activation",
    "angle_relations",
    "combine",
    "cosine_relations",
    "cross_entropy",
    "distance_relations",
    "entropy",
    "feature_matching",
    "focal",
    "kl",
    "layer_statistics",
    "masked_mean",
    "match_codes",
    "match_states",
    "metadata",
    "mse",
    "neighbour_targets",
    "power_targets",
    "slot_weighted",
    "soft_cross_entropy",
]
