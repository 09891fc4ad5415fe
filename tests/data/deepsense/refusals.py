"""How folders with a fault in the fourth frame's files are refused."""

import pytest

from beamkd.base import InputError
from beamkd.data import read_deepsense

SCAN = "unit1/lidar_SCR_data/Lidar_data_3.mat"
POWER = "unit1/mmWave_data/mmWave_power_3.txt"
CAR = "unit2/GPS_data_calibrated/gps_location_3.txt"
FOURTH = "line 5 (index 4)"
"""How messages must name the row of those files."""


def refused(folder, **arguments) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(InputError) as caught:
        read_deepsense(folder, **arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "expected" in message or "cannot be" in message
    return message
