"""Strategies of collaborative learning, a file each."""

from collections.abc import Callable

from beamkd.collab.nodes import Federation
from beamkd.collab.strategies.alone import self_distillation
from beamkd.collab.strategies.central import central
from beamkd.collab.strategies.cfd import cfd
from beamkd.collab.strategies.datafree import datafree
from beamkd.collab.strategies.fedavg import fedavg
from beamkd.collab.strategies.feddf import feddf
from beamkd.collab.strategies.fedmd import dsfl, fedmd
from beamkd.collab.strategies.fedproto import fedproto
from beamkd.collab.strategies.local import local
from beamkd.collab.strategies.mutual import complete, edges_of, hierarchical, mutual, random_graph, ring
from beamkd.collab.strategy import Strategy

STRATEGIES: dict[str, Callable[[Federation], Strategy]] = {
    "local": lambda federation: local(),
    "self": lambda federation: self_distillation(),
    "central": lambda federation: central(federation.nodes),
    "fedavg": lambda federation: fedavg(),
    "fedprox": lambda federation: fedavg(proximal=0.1),
    "fedmd": lambda federation: fedmd(),
    "dsfl": lambda federation: dsfl(),
    "cfd": lambda federation: cfd(),
    "feddf": lambda federation: feddf(),
    "fedproto": lambda federation: fedproto(),
    "mutual": lambda federation: mutual(ring(federation.nodes)),
    "hierarchical": lambda federation: hierarchical(edges_of(federation.nodes)),
    "datafree": lambda federation: datafree([group.kind for group in federation.groups]),
}
"""By name: makes a strategy for a federation, with its usual settings."""

__all__ = [
    "STRATEGIES",
    "central",
    "cfd",
    "complete",
    "datafree",
    "dsfl",
    "edges_of",
    "fedavg",
    "feddf",
    "fedmd",
    "fedproto",
    "hierarchical",
    "local",
    "mutual",
    "random_graph",
    "ring",
    "self_distillation",
]
