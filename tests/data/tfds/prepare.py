"""Prepares both datasets where there is no TensorFlow and no network: `python -m tests.data.tfds.prepare FOLDER`.

Leaves in FOLDER the drives of `simulate` (drives/), the same as a DeepSense folder (scenario/), and datasets of each
(datasets/). The street's files are small, so that a split takes several.
"""

import socket
import sys
from pathlib import Path

import jax
import numpy as np

DRIVES, SEED = 9, 0


class WithoutTensorFlow:
    """A finder of modules that finds no TensorFlow."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        return None if name.split(".")[0] in ("tensorflow", "apache_beam") else self.finder.find_spec(name, *rest)


def refuse(*_):
    raise AssertionError("nobody should go to the network")


def prepare(folder: Path) -> None:
    import tensorflow_datasets as tfds

    from beamkd.data import store_drives, write_deepsense
    from beamkd.data.tfds import frames
    from beamkd.data.tfds.deepsense6g import DeepSense6g
    from beamkd.data.tfds.street import BeamkdStreet, StreetConfig
    from beamkd.sim import Street, simulate

    drives = simulate(jax.random.key(SEED), Street(), DRIVES)
    store_drives(folder / "drives", [drives])
    frames.SHARD_BYTES = 200_000  # three drives
    BeamkdStreet(data_dir=folder / "datasets", config=StreetConfig(name="nine", drives=DRIVES)).download_and_prepare()

    # Drives need not be recorded in the order of their numbers.
    order = np.lexsort((np.arange(len(drives.slot)), -np.asarray(drives.drive)))
    write_deepsense(jax.tree.map(lambda array: array[order], drives), folder / "scenario" / "Scenario9", scenario=9)
    builder = DeepSense6g(data_dir=folder / "datasets", config="scenario9")
    config = tfds.download.DownloadConfig(manual_dir=folder / "scenario")
    builder.download_and_prepare(download_config=config, file_format="array_record")


if __name__ == "__main__":
    sys.meta_path[:] = map(WithoutTensorFlow, sys.meta_path)
    socket.socket.connect = socket.getaddrinfo = refuse
    prepare(Path(sys.argv[1]))
    assert not {"tensorflow", "apache_beam", "torch"} & set(sys.modules)
