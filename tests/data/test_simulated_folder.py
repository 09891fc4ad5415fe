import contextlib
import types

import jax
import numpy as np

from beamkd.data import make_windows, read_deepsense, write_deepsense
from beamkd.data.deepsense.writer import MARKER
from beamkd.report.results import data_source
from beamkd.sim import Building, Street, simulate
from experiments.common.dataset import describe, open_dataset
from experiments.common.flags import Flags

FOLDER = "a folder in the form of DeepSense 6G Scenario 9"
OURS = "(written by beamkd: simulated, unless it was given measured drives)"

STREET = Street(others=2, buildings=(Building(16.0),))


def said(**flags):
    """What a run with these flags puts down as the origin of its data, and its report says of them."""
    config = Flags(**flags, seeds=1)
    run = types.SimpleNamespace(phase=contextlib.nullcontext, say=print, drives=None)
    dataset, _ = open_dataset(run, config)
    data = describe(config, dataset)
    named = {"lidar": config.lidar, "simulated": config.simulated}
    return data["origin"], data_source({"data": data, "config": named})


def test_a_simulated_folder_read_back_gives_identical_windows(tmp_path):
    drives = simulate(jax.random.key(3), STREET, 4)
    write_deepsense(drives, tmp_path / "street", scenario=9)
    written = make_windows(read_deepsense(tmp_path / "street", scenario=9))
    jax.tree.map(np.testing.assert_array_equal, written, make_windows(drives))
    assert len(written) > 50


def test_runs_say_that_a_folder_of_ours_is_simulated_and_of_another_folder_no_more_than_they_know(tmp_path):
    write_deepsense(simulate(jax.random.key(3), STREET, 8), tmp_path / "download" / "street", scenario=9)
    flags = {"source": "deepsense", "data_dir": (tmp_path / "download",), "scenario": 9}
    read, cast = "Receive powers, positions and LiDAR: as in the folder.", "LiDAR: simulated along these positions."
    assert said(**flags) == (OURS.strip("()"), f"{FOLDER} {OURS}. {read}")
    assert said(**flags, lidar="raycast")[1].endswith(cast)
    (tmp_path / "download" / "street" / MARKER).unlink()
    assert said(**flags) == (None, f"{FOLDER}. {read}")
    origin, text = said(**flags, lidar="raycast")
    assert origin is None and text == f"{FOLDER}. Receive powers and positions: as in the folder. {cast}"


def test_runs_on_several_folders_name_them_all(tmp_path):
    for number in (9, 31):
        write_deepsense(simulate(jax.random.key(number), STREET, 8), tmp_path / str(number), scenario=number)
    (tmp_path / "9" / MARKER).unlink()
    origin, text = said(source="deepsense", data_dir=(tmp_path / "9", tmp_path / "31"), simulated=("lidar",))
    assert origin == OURS.strip("()")
    assert text.startswith("folders in the form of DeepSense 6G Scenarios 9, 31 (") and text.endswith(
        "Receive powers and positions: as in the folder. LiDAR: simulated along these positions."
    )


def test_runs_on_the_built_in_street_have_no_folder_to_speak_of():
    origin, text = said(drives=8)
    assert origin is None and text.startswith("the built-in simulated street. Simulated: everything")
