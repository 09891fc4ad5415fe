import jax
import numpy as np

from beamkd.data import make_windows, read_deepsense, write_deepsense
from beamkd.sim import Building, Street, simulate


def test_a_simulated_folder_read_back_gives_identical_windows(tmp_path):
    street = Street(others=2, buildings=(Building(16.0),))
    drives = simulate(jax.random.key(3), street, 4)
    write_deepsense(drives, tmp_path / "street", scenario=9)
    written = make_windows(read_deepsense(tmp_path / "street", scenario=9))
    jax.tree.map(np.testing.assert_array_equal, written, make_windows(drives))
    assert len(written) > 50
