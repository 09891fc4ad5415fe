"""Pictures of the camera: from JPEG files that may be damaged or hostile, and to such files.

Pillow decodes, and of all that it knows only JPEG. Sizes are looked at before anything is decoded.
"""

import io
import warnings
from pathlib import Path

import numpy as np

from beamkd.base import InputError
from beamkd.data.deepsense.files import content

PIXELS = 224
"""Of a frame's sides, as published networks take them."""

MOST_PIXELS = 2**23
"""Of a picture. Real ones have 960 × 540."""

LARGEST_PICTURE = 8 * 2**20
"""Bytes. Real ones take a few hundred kB."""

MOST_SCANS = 100
"""Passes over its pixels that a picture may ask for: each takes time and needs only a few bytes. Usual are 1 to 10."""

START_OF_SCAN = b"\xff\xda"

LUMINANCE = (0.2125, 0.7154, 0.0721, 0)
"""Weights of red, green and blue (ITU-R BT.709, as scikit-image's `rgb2gray`)."""

QUALITY = 100
"""Of what we write: gray levels come back within 2, motion masks in 99.9 % of their pixels; at 95 within 7 levels."""


def read_picture(path: str) -> np.ndarray:
    """A gray frame, [224, 224] uint8, from a JPEG in colour or gray of that size or larger.

    As published work has it: both sides are resized, proportions change; each pixel is the mean of what it covers,
    weighted by a triangle (Pillow's bilinear filter, which is also torchvision's); then luminance.
    """
    from PIL import Image  # here, for few runs read pictures

    data = content(path, LARGEST_PICTURE)
    if data.count(START_OF_SCAN) > MOST_SCANS:
        raise InputError(f"expected a picture of at most {MOST_SCANS} scans, found {data.count(START_OF_SCAN):,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            picture = Image.open(io.BytesIO(data), formats=["JPEG"])
        _check_kind(picture.size, picture.mode)
        picture = picture.resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)
    except InputError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise InputError(f"expected a JPEG, found a damaged one or another format: {_line(error)}") from error
    return np.asarray(picture if picture.mode == "L" else picture.convert("L", LUMINANCE))


def _check_kind(size: tuple[int, int], mode: str) -> None:
    if min(size) < PIXELS or size[0] * size[1] > MOST_PIXELS:
        expected = f"expected a picture of {PIXELS} × {PIXELS} to {MOST_PIXELS:,} pixels in all"
        raise InputError(f"{expected}, found {size[0]} × {size[1]}")
    if mode not in ("L", "RGB"):
        raise InputError(f"expected a picture in colour (RGB) or gray (L), found {mode}")


def _line(error: Exception) -> str:
    return f"{type(error).__name__} {error}".splitlines()[0][:120]


def check_picture(gray: np.ndarray) -> np.ndarray:
    """A gray frame, found to be [224, 224] uint8."""
    if gray.shape != (PIXELS, PIXELS) or gray.dtype != np.uint8:
        raise InputError(f"expected a gray frame uint8 [{PIXELS}, {PIXELS}], found {gray.dtype} {list(gray.shape)}")
    return gray


def write_picture(path: Path, gray: np.ndarray) -> None:
    """A JPEG in gray."""
    from PIL import Image  # as above

    Image.fromarray(gray).save(path, "JPEG", quality=QUALITY)
