"""Windows and splits; DeepSense 6G folders, read and written."""

from beamkd.data.deepsense import origin, read_deepsense, write_deepsense
from beamkd.data.stored import open_drives, store_drives
from beamkd.data.windows import (
    Split,
    gather,
    lidar_batch,
    lidar_input,
    make_windows,
    on_host,
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
    "on_host",
    "open_drives",
    "origin",
    "read_deepsense",
    "select",
    "split_drives",
    "stack_splits",
    "store_drives",
    "write_deepsense",
]
