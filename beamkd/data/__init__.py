"""Windows and splits; DeepSense 6G folders, read and written."""

from beamkd.data.dataset import Dataset, deal
from beamkd.data.deepsense import origin, read_deepsense, write_deepsense
from beamkd.data.inputs import forward_of, initial_model, sensor_batch, sensor_input
from beamkd.data.stored import open_drives, store_drives
from beamkd.data.windows import (
    Split,
    gather,
    make_windows,
    on_host,
    select,
    split_drives,
    stack_splits,
)

__all__ = [
    "Dataset",
    "Split",
    "deal",
    "forward_of",
    "gather",
    "initial_model",
    "make_windows",
    "on_host",
    "open_drives",
    "origin",
    "read_deepsense",
    "select",
    "sensor_batch",
    "sensor_input",
    "split_drives",
    "stack_splits",
    "store_drives",
    "write_deepsense",
]
