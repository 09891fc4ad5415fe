"""Strategies of collaborative learning, a file each."""

from collections.abc import Callable

from beamkd.base import Output
from beamkd.collab.nodes import Federation, Kind
from beamkd.collab.strategies.alone import self_distillation
from beamkd.collab.strategies.central import central_kd
from beamkd.collab.strategies.cfd import cfd
from beamkd.collab.strategies.datafree import datafree
from beamkd.collab.strategies.dense import CO_BOOSTING, Synthesis, dense
from beamkd.collab.strategies.fedavg import fedavg
from beamkd.collab.strategies.feddf import feddf
from beamkd.collab.strategies.fedgkt import fedgkt
from beamkd.collab.strategies.fedmd import dsfl, fedmd
from beamkd.collab.strategies.fedproto import fedproto
from beamkd.collab.strategies.local import local
from beamkd.collab.strategies.mutual import complete, edges_of, hierarchical, mutual, random_graph, ring
from beamkd.collab.strategies.pooled import pooled
from beamkd.collab.strategies.progressive import progressive
from beamkd.collab.strategy import Strategy


def _outputs(federation: Federation) -> list[Output]:
    return [federation.output(number) for number in range(len(federation.groups))]


def _kinds(federation: Federation) -> list[Kind]:
    return [group.kind for group in federation.groups]


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "local": lambda federation, **options: local(**options),
    "self": lambda federation, **options: self_distillation(**options),
    "pooled": lambda federation, **options: pooled(**options),
    "central_kd": lambda federation, **options: central_kd(federation.nodes, **options),
    "fedavg": lambda federation, **options: fedavg(**options),
    "fedprox": lambda federation, **options: fedavg(proximal=0.1, **options),
    "fedmd": lambda federation, **options: fedmd(**options),
    "dsfl": lambda federation, **options: dsfl(**options),
    "cfd": lambda federation, **options: cfd(**options),
    "feddf": lambda federation, **options: feddf(**options),
    "fedproto": lambda federation, **options: fedproto(_outputs(federation), **options),
    "fedgkt": lambda federation, **options: fedgkt(federation.nodes, federation.output(0), **options),
    "progressive": lambda federation, **options: progressive(
        federation.nodes, federation.output().features.shape[-1], **options
    ),
    "mutual": lambda federation, **options: mutual(ring(federation.nodes), **options),
    "hierarchical": lambda federation, **options: hierarchical(edges_of(federation.nodes), **options),
    "dense": lambda federation, **options: dense(_kinds(federation), **options),
    "co_boosting": lambda federation, **options: dense(_kinds(federation), **{"synthesis": CO_BOOSTING, **options}),
    "datafree": lambda federation, **options: datafree(_kinds(federation), **options),
}
"""By name: makes a strategy for a federation, with its usual settings but for what is given."""

__all__ = [
    "CO_BOOSTING",
    "STRATEGIES",
    "Synthesis",
    "central_kd",
    "cfd",
    "complete",
    "datafree",
    "dense",
    "dsfl",
    "edges_of",
    "fedavg",
    "feddf",
    "fedgkt",
    "fedmd",
    "fedproto",
    "hierarchical",
    "local",
    "mutual",
    "pooled",
    "progressive",
    "random_graph",
    "ring",
    "self_distillation",
]
