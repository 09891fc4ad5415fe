"""Arrays of a network in an `.npz` file that may be anyone's: nothing is unpickled, nothing inflated unseen."""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from beamkd.base import InputError

Layout = Mapping[str, tuple[int | str, ...]]
"""Arrays of a network by name, and their axes: a size, or the name of one that all axes of the name have; '3H' is
three times 'H'."""

LARGEST_NETWORK = 32 * 2**20
"""Bytes of a file, and of all its arrays together. Published networks have 0.2 to 0.8 MB."""

MOST_ENTRIES = 256
"""Entries of a file. Published networks have 10 to 61, two of which are to check them by."""

ENTRY = b"PK\x01\x02"
"""What every entry of a zip's directory starts with."""

LONGEST_HEADER = 16 * 2**10
"""Bytes from the start of an array's entry that its shape and type must stand in. NumPy's own limit is 10,000."""


def read_arrays(path: Path, layouts: Sequence[Layout]) -> tuple[Layout, dict[str, int], dict[str, np.ndarray]]:
    """The arrays of one of several layouts: that of which the file has the most.

    No array's data is inflated before all shapes have been found right.

    Args:
      path: the file.
      layouts: what there may be.

    Returns:
      Which layout it is, the sizes of its named axes, and its arrays by name.

    Raises:
      InputError: the file is missing, not an .npz of plain arrays, or too large, or an array is missing, misshapen or
        not finite.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: expected an .npz file with a published network, found no file")
        with _archive(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            layout = max(layouts, key=lambda layout: len(layout.keys() & entries.keys()))
            entries = {name: entries[name] for name in layout if name in entries}
            headers = {name: _header(archive, entry) for name, entry in entries.items()}
            sizes = _check_layout(path, layout, headers)
            arrays = {name: _array(archive, entry) for name, entry in entries.items()}
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many kinds
        raise InputError(f"{path}: expected an .npz file of plain arrays, found {_one_line(error)}") from error
    for name, array in arrays.items():
        if not (np.abs(array) <= np.finfo(np.float32).max).all():
            raise InputError(f"{path}: expected finite numbers in {name}, found NaN or infinity")
    return layout, sizes, arrays


def _archive(path: Path) -> zipfile.ZipFile:
    """The file's zip, whose entries are few and claim to inflate to no more than a network has.

    An entry that holds more than it claims costs nothing: zipfile inflates piece by piece, and stops at the claim.
    """
    if path.stat().st_size > LARGEST_NETWORK:
        raise ValueError(f"more than {LARGEST_NETWORK:,} bytes")
    content = path.read_bytes()
    if content.count(ENTRY) > MOST_ENTRIES:  # counted first: zipfile takes some 600 bytes for each
        raise ValueError(f"more than {MOST_ENTRIES} entries")
    archive = zipfile.ZipFile(io.BytesIO(content))
    claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > LARGEST_NETWORK:
        raise ValueError(f"{claimed:,} bytes in all entries, more than {LARGEST_NETWORK:,}")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in archive.infolist()):
        raise ValueError("a compression that NumPy does not write")  # zipfile inflates the others without a bound
    return archive


def _header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, which must not need more bytes than the entry claims to hold."""
    with archive.open(entry) as file:
        start = io.BytesIO(file.read(LONGEST_HEADER))
    version = np.lib.format.read_magic(start)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(start)
    if math.prod(shape) * dtype.itemsize > entry.file_size:
        raise ValueError(f"{entry.filename!r:.80} of {entry.file_size:,} bytes for the shape {str(shape):.80}")
    return shape, dtype


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _check_layout(path: Path, layout: Layout, headers: dict[str, tuple[tuple[int, ...], np.dtype]]) -> dict[str, int]:
    """Sizes by axis; raises where an array is missing or disagrees with those before it."""
    sizes: dict[str, int] = {}
    for name, axes in layout.items():
        if name not in headers:
            raise InputError(f"{path}: expected arrays {', '.join(layout)}, found none named {name}")
        shape, dtype = headers[name]
        if len(shape) == len(axes) and min(shape) > 0:
            for axis, size in zip(axes, shape, strict=True):
                if axis == "3H":
                    if size % 3 == 0:
                        sizes.setdefault("H", size // 3)
                elif isinstance(axis, str):
                    sizes.setdefault(axis, size)
        expected = tuple(3 * sizes["H"] if axis == "3H" and "H" in sizes else sizes.get(axis, axis) for axis in axes)
        if shape != expected or not np.issubdtype(dtype, np.floating):
            found = f"{str(shape):.80}, {str(dtype):.80}"
            raise InputError(f"{path}: expected {name} of shape {expected}, float, found {found}")
    return sizes


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
