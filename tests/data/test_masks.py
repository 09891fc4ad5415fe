"""Motion masks of drives, against SciPy and Pillow."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from beamkd.base import Drives, InputError
from beamkd.data import masks as module
from beamkd.data import with_masks

FRAMES = 11
DRIVE = np.repeat([1, 2, 3], [4, 4, 3]).astype(np.int32)
SLOT = np.array([0, 1, 2, 3, 0, 1, 3, 4, 0, 1, 2], np.int32)
"""The second drive lacks its third slot."""


def drives(size=48) -> Drives:
    rng = np.random.default_rng(0)
    gray = ndimage.gaussian_filter(rng.normal(size=(FRAMES, size, size)), (0, 3, 3))
    gray = np.uint8(np.clip(128 + 300 * gray, 0, 255))
    lidar, power = rng.random((FRAMES, 5)), rng.random((FRAMES, 4))
    return Drives({"camera": gray, "lidar": lidar}, power, np.zeros((FRAMES, 2)), DRIVE, SLOT)


def expected(gray: np.ndarray) -> np.ndarray:
    blurred = ndimage.gaussian_filter(gray.astype(np.float64), (0, 1, 1), mode="reflect", truncate=4)
    change = np.abs(np.diff(blurred, axis=0))
    return change > 0.1 * change.max((1, 2), keepdims=True)


@pytest.mark.parametrize("piece", [2, 3, 256])
def test_masks_follow_drives_and_slots_whatever_the_pieces(monkeypatch, piece):
    monkeypatch.setattr(module, "PIECE", piece)
    found = with_masks(drives(), 48)
    assert set(found.sensors) == {"lidar", "masks"}
    masks = np.unpackbits(found.sensors["masks"], axis=-1).astype(bool)
    first = np.isin(np.arange(FRAMES), [0, 4, 6, 8])  # of drives, and after a gap
    assert not masks[first].any()
    exact = expected(drives().sensors["camera"])[~first[1:]]
    assert (masks[~first] != exact).mean() < 1e-3 and exact.mean() > 0.1


def test_frames_are_shrunk_first():
    gray = drives().sensors["camera"]
    small = np.stack([np.asarray(Image.fromarray(frame).resize((24, 24), Image.Resampling.BILINEAR)) for frame in gray])
    masks = np.unpackbits(with_masks(drives(), 24).sensors["masks"], axis=-1).astype(bool)
    exact = expected(small)
    assert masks.shape == (FRAMES, 24, 24)
    assert (masks[[1, 2, 3, 5]] != exact[[0, 1, 2, 4]]).mean() < 0.02  # levels that were rounded otherwise


@pytest.mark.parametrize("size", [0, 20, 56])
def test_sizes_that_cannot_be_are_refused(size):
    with pytest.raises(InputError, match=f"^mask size: expected a multiple of 8 up to 48, found {size}$"):
        with_masks(drives(), size)
