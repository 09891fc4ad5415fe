"""Strategies of collaborative learning, a file each."""

from collections.abc import Callable

from beamkd.collab.strategies.alone import self_distillation
from beamkd.collab.strategies.central import central
from beamkd.collab.strategies.cfd import cfd
from beamkd.collab.strategies.fedavg import fedavg
from beamkd.collab.strategies.feddf import feddf
from beamkd.collab.strategies.fedmd import dsfl, fedmd
from beamkd.collab.strategies.fedproto import fedproto
from beamkd.collab.strategies.local import local
from beamkd.collab.strategies.mutual import complete, hierarchical, mutual, random_graph, ring
from beamkd.collab.strategy import Strategy

STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "local": lambda nodes: local(),
    "self": lambda nodes: self_distillation(),
    "central": central,
    "fedavg": lambda nodes: fedavg(),
    "fedprox": lambda nodes: fedavg(proximal=0.1),
    "fedmd": lambda nodes: fedmd(),
    "dsfl": lambda nodes: dsfl(),
    "cfd": lambda nodes: cfd(),
    "feddf": lambda nodes: feddf(),
    "fedproto": lambda nodes: fedproto(),
    "mutual": lambda nodes: mutual(ring(nodes)),
    "hierarchical": lambda nodes: hierarchical(tuple(node * -(-nodes // 3) // nodes for node in range(nodes))),
}
"""By name: makes a strategy for so many nodes, with its usual settings."""

__all__ = [
    "STRATEGIES",
    "central",
    "cfd",
    "complete",
    "dsfl",
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
