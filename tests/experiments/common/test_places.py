"""Nodes at several places: whose drives are where, and what each node is judged by."""

import types

import jax
import numpy as np
import pytest

from beamkd.base import Drives, InputError
from beamkd.data import write_deepsense
from beamkd.sim import Family, Street
from beamkd.training import map_members
from experiments.collaborative import Collaborative
from experiments.common import places
from experiments.common.collab_results import _judges, _mean_over_nodes
from experiments.common.collab_study import Setting, Study
from experiments.common.dataset import Trained, evaluate_networks
from tests.collab.federations import dataset_of, keys_of, networks

PLACE = Setting("it", "it", "fedavg", "place", 1.0, "mean", "float32", None)


def study_of(**flags):
    config = Collaborative(drives=10, sensors=("lidar",), partition="place", **flags)
    return Study(types.SimpleNamespace(over_members=map_members, axis_name=None), dataset_of(), keys_of(), config)


def test_drives_of_several_streets_are_numbered_one_street_after_another(monkeypatch):
    asked = []

    def load(config, folder):
        asked.append((config.street, config.seed))
        numbers = np.repeat(np.arange(1, config.drives + 1), 2).astype(np.int32)
        frames = np.zeros((len(numbers), 1), np.float32)
        return Drives({"lidar": frames}, frames, frames, numbers, numbers)

    monkeypatch.setattr(places, "load_drives", load)
    config = Collaborative(drives=5, stations=2, seed=3)
    found = places.load_places(config, None)
    np.testing.assert_array_equal(found.drive, np.repeat([1, 2, 3, 4, 5], 2))
    assert asked == [(Street(), 3), (Family().street(4), 4)]
    np.testing.assert_array_equal(places.place_of_drives(config)[1:], [0, 0, 0, 1, 1])


def test_drives_of_several_folders_are_counted(tmp_path):
    drives = dataset_of().windows.frames
    for name, least in (("a", 8), ("b", 9)):  # of 10
        chosen = np.asarray(drives.drive) >= least
        own = jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], drives)
        write_deepsense(own, tmp_path / name, 8)
    config = Collaborative(source="deepsense", data_dir=(tmp_path / "a", tmp_path / "b"))
    assert places.drives_by_place(config) == [3, 2]
    np.testing.assert_array_equal(places.place_of_drives(config)[1:], [0, 0, 0, 1, 1])


def test_nodes_are_judged_by_the_windows_of_their_own_place():
    study = study_of(stations=2, nodes=3)
    rows, test = study.judged("place"), study.dataset.split.test
    drive, there = np.asarray(study.dataset.windows.drive)[rows.index], np.asarray(test.mask)
    second = (drive > 5) & there[:, None]  # five drives each
    np.testing.assert_array_equal(rows.mask, np.where(np.arange(3)[:, None] == 1, second, ~second & there[:, None]))
    np.testing.assert_array_equal(study.judged("drive").mask[:, 2], there)
    with pytest.raises(InputError, match="^--partition place: expected windows to judge node 0 by in each seed, found"):
        study_of(stations=9, nodes=10).judged("place")


def test_metrics_of_nodes_at_places_are_those_of_all_drives_once():
    study = study_of(stations=2, nodes=3)
    model = networks(study.dataset, 1)
    trained = Trained(type(model)(model.module, jax.tree.map(lambda leaf: leaf[:, 0], model.params), model.inputs))
    rows = study.judged("place")
    parts = {f"it {node}": jax.tree.map(lambda leaf, node=node: leaf[:, node], rows) for node in range(3)}
    scores, tested, _ = evaluate_networks(
        study.run, study.dataset, {"teacher": trained, **dict.fromkeys(parts, trained)}, parts
    )
    found = _mean_over_nodes([scores[name] for name in parts], _judges(study, PLACE, tested["number"]))
    counts = tested["counts"]["top5"]
    # One network at all nodes: each drive's right answers are the network's, and a node's share is that of its drives.
    for metric in ("top1", "top5", "dba"):
        np.testing.assert_allclose(found["by_drive"][metric], scores["teacher"]["by_drive"][metric], atol=1e-5)
    first = tested["number"] <= 5
    sums = scores["teacher"]["by_drive"]["top5"]
    for node, own in enumerate((first, ~first, first)):
        expected = sums[:, own].sum(1) / counts[:, own].sum(1)
        np.testing.assert_allclose(scores[f"it {node}"]["top5"], expected, atol=1e-5)
