"""DeepSense 6G scenario folders, read and written."""

from beamkd.data.deepsense.frames import Frame, read_frames
from beamkd.data.deepsense.reader import count_drives, read_deepsense, scenario_number
from beamkd.data.deepsense.writer import origin, write_deepsense

__all__ = [
    "Frame",
    "count_drives",
    "origin",
    "read_deepsense",
    "read_frames",
    "scenario_number",
    "write_deepsense",
]
