"""Windows and splits; DeepSense 6G folders, read and written; prepared TFDS datasets."""

from beamkd.data.dataset import Dataset, deal
from beamkd.data.deepsense import (
    Frame,
    count_drives,
    origin,
    read_deepsense,
    read_frames,
    scenario_number,
    write_deepsense,
)
from beamkd.data.inputs import forward_of, initial_model, sensor_batch, sensor_input
from beamkd.data.masks import with_masks
from beamkd.data.stored import open_drives, store_drives
from beamkd.data.tfds.source import open_tfds, read_tfds, tfds_pieces
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
    "Frame",
    "Split",
    "count_drives",
    "deal",
    "forward_of",
    "gather",
    "initial_model",
    "make_windows",
    "on_host",
    "open_drives",
    "open_tfds",
    "origin",
    "read_deepsense",
    "read_frames",
    "read_tfds",
    "scenario_number",
    "select",
    "sensor_batch",
    "sensor_input",
    "split_drives",
    "stack_splits",
    "store_drives",
    "tfds_pieces",
    "with_masks",
    "write_deepsense",
]
