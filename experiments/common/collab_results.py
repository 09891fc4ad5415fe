"""What the study of collaborative learning says of settings that were played, and of nodes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from beamkd.base import Model, Rows
from beamkd.training import to_host
from experiments.common.collab_study import Played, Setting, Study
from experiments.common.dataset import Trained, evaluate_networks
from experiments.common.rounds import LINKS

NEAR = 2
"""Beams from the best one that still are near it."""


def tested(study: Study, played: Sequence[Played]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Settings in the results, and the test drives as `evaluate_networks` has them.

    Of each setting the metrics, mean over nodes, and those of each node; bytes, operations, seconds, energy.
    """
    networks, parts = {"teacher": study.teacher}, {}
    for each in played:
        for node, model in enumerate(_each(each.models)):
            networks[name := f"{each.setting.name} {node}"] = Trained(model)
            if each.setting.partition == "place":
                parts[name] = jax.tree.map(lambda leaf, node=node: leaf[:, node], study.judged("place"))
    scores, test_drives, beams = evaluate_networks(study.run, study.dataset, networks, parts)
    methods = {}
    for each in played:
        count = len(_each(each.models))  # all nodes, or the centre's network alone
        names = [f"{each.setting.name} {node % count}" for node in range(study.config.nodes)]
        nodes = [scores[name] for name in names]
        near = _near(study, each.setting, np.stack([beams[name] for name in names], axis=1))
        judges = _judges(study, each.setting, test_drives["number"])
        methods[each.setting.name] = _mean_over_nodes(nodes, judges) | near | _spent(study, each)
        if each.setting.name == "local" and each.setting.partition != "place":
            methods["best_node"] = _best(study, each.models, nodes)
    return {**methods, "teacher": scores["teacher"]}, test_drives


def _best(study: Study, models: tuple[Model, ...], nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Metrics of the node that is best on the windows for validation, of each seed, out of those of all nodes."""
    best = study.top5(models, study.judged("drive", "val")).argmax(1)
    return jax.tree.map(lambda *values: np.stack([values[node][seed] for seed, node in enumerate(best)]), *nodes)


def _judges(study: Study, setting: Setting, drives: np.ndarray) -> np.ndarray:
    """How many nodes are judged on each drive, [D]."""
    if setting.partition != "place":
        return np.full(len(drives), study.config.nodes)
    places = study.place.max() + 1
    return np.bincount(np.arange(study.config.nodes) % places, minlength=places)[study.place[drives]]


def described_nodes(study: Study) -> list[dict[str, Any]]:
    """Nodes in the results: sensor, network, and how many windows and best beams the first seed gives them."""
    rows = jax.tree.map(lambda leaf: np.asarray(leaf[0]), _usual_owners(study))
    best = _best_beams(study)
    kinds = [kind for kind, count in study.kinds.items() for _ in range(count)]
    return [
        {
            "sensor": kind.sensor,
            "size": kind.size,
            "windows": int(mask.sum()),
            "beams": len(np.unique(best[index[mask]])),
        }
        for kind, index, mask in zip(kinds, rows.index, rows.mask, strict=True)
    ]


def frame_bytes(study: Study) -> dict[str, int]:
    """Bytes of a frame of each sensor, as it is stored; masks have a bit a place."""
    frames = study.dataset.windows.frames.sensors
    return {name: leaf.dtype.itemsize * math.prod(leaf.shape[1:]) for name, leaf in frames.items()}


def places(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Where nodes' windows of the first seed were, m [N, 2], and whose each is [N]."""
    rows = jax.tree.map(lambda leaf: np.asarray(leaf[0]), _usual_owners(study))
    frames = np.asarray(study.dataset.windows.predicted)[:, 0]
    position = np.asarray(study.dataset.windows.frames.position)[frames]
    owner = np.broadcast_to(np.arange(len(rows.mask))[:, None], rows.mask.shape)
    return position[rows.index[rows.mask]], owner[rows.mask]


def _usual_owners(study: Study) -> Rows:
    return study.owners(study.config.partition, study.config.alpha_dirichlet)


def _best_beams(study: Study) -> np.ndarray:
    """Of the current slot of each window."""
    frames = np.asarray(study.dataset.windows.predicted)[:, 0]
    return np.asarray(study.dataset.windows.frames.beam)[frames]


def _near(study: Study, setting: Setting, beams: np.ndarray) -> dict[str, np.ndarray]:
    """How often nodes are near the best beam, mean over nodes, [seeds]: where they know it, and where they do not.

    That is, where they have learned from a window whose best beam it is. NaN where there is no such window.

    Args:
      study: the study.
      setting: whose windows are whose.
      beams: predicted for current slots of the test split, [seeds, nodes, N].
    """
    best = _best_beams(study)
    test, own = study.judged(setting.partition), to_host(study.owners(setting.partition, setting.alpha))
    right = {"near_known": np.full(beams.shape[:2], np.nan), "near_unknown": np.full(beams.shape[:2], np.nan)}
    for seed, node in np.ndindex(*beams.shape[:2]):
        there = test.mask[seed, node]
        wanted = best[test.index[seed, node][there]]
        near = np.abs(beams[seed, node][: len(there)][there] - wanted) <= NEAR
        known = np.isin(wanted, best[own.index[seed, node][own.mask[seed, node]]])
        for name, chosen in (("near_known", known), ("near_unknown", ~known)):
            if chosen.any():
                right[name][seed, node] = near[chosen].mean()
    return {name: _mean_of_numbers(values) for name, values in right.items()}


def _spent(study: Study, played: Played) -> dict[str, Any]:
    """What a setting took; bytes, seconds and joules [seeds]."""
    ledger, work, rates = played.course.ledger, played.work, study.config.rates
    by_link = {link: ledger.total(link) + np.zeros(len(study.keys), int) for link in LINKS}
    curve = played.course.curve.mean(-1)
    measured = ~np.isnan(curve[:, 0])
    return {
        "bytes_up": by_link["up"],
        "bytes_down": by_link["down"],
        "bytes_between": by_link["between"] + by_link["edge up"] + by_link["edge down"],
        "rounds": len(curve),
        "curve": {"rounds": 1 + np.flatnonzero(measured), "top5": curve[measured].T},
        "flops_nodes": work.nodes,
        "flops_centre": work.centre,
        "seconds": ledger.seconds(work, rates) + np.zeros(len(study.keys)),
        "joules": ledger.joules(work, rates) + np.zeros(len(study.keys)),
        "refused": played.course.state.refused,
        "suspected": played.course.state.suspected,
        "stale": played.course.state.stale,
    }


def _each(models: tuple[Model, ...]) -> list[Model]:
    """Networks [seeds, nodes, ...] one by one, [seeds, ...]."""
    return [
        dataclasses.replace(model, params=jax.tree.map(lambda leaf, node=node: leaf[:, node], model.params))
        for model in models
        for node in range(jax.tree.leaves(model.params)[0].shape[1])
    ]


def _mean_over_nodes(nodes: Sequence[dict[str, Any]], judges: np.ndarray) -> dict[str, Any]:
    """Metrics of a setting from those of its nodes, which are kept, too; each drive has so many judges [D]."""
    mean = jax.tree.map(lambda *values: np.mean(values, axis=0), *nodes)
    sums = [node["by_drive"] for node in nodes]
    mean["by_drive"] = jax.tree.map(lambda *values: np.sum(values, axis=0) / judges[:, None], *sums)
    each = [{name: values for name, values in node.items() if name != "by_drive"} for node in nodes]
    return mean | {"nodes": each}


def _mean_of_numbers(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is no NaN; NaN where nothing is."""
    there = ~np.isnan(values)
    total = np.where(there, values, 0).sum(-1)
    return np.divide(total, there.sum(-1), out=np.full_like(total, np.nan), where=there.any(-1))
