"""What builders and the reader of our TFDS datasets agree on; nothing here needs TFDS."""

import math
from typing import NamedTuple

import numpy as np

VERSION = "1.0.0"
"""Of the features: their names, types and meaning."""

RELEASES = {"1.0.0": "First release."}
"""What each version brought."""

PARTS = ("train", "val", "test")
"""The splits, in the order in which they are written."""

SIMULATED = "simulated"
"""Key in metadata.json: whether beamkd made the data up, or wrote the folder that they are from."""


class Array(NamedTuple):
    """An array of one frame: its shape, its type, and what is said of it."""

    shape: tuple[int, ...]
    dtype: str
    said: str = ""

    @property
    def bytes(self) -> int:
        """Of one frame."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize
