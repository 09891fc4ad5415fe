"""Windows and splits; DeepSense 6G folders, read and written."""

from beamkd.data.deepsense import read_deepsense
from beamkd.data.deepsense_writer import write_deepsense
from beamkd.data.windows import (
    Split,
    gather,
    lidar_batch,
    lidar_input,
    make_windows,
    select,
    split_drives,
    stack_splits,
)

__all__ = [
    "Split",
    "gather",
    "lidar_batch",
    "lidar_input",
    "make_windows",
    "read_deepsense",
    "select",
    "split_drives",
    "stack_splits",
    "write_deepsense",
]
