"""Matrices of MATLAB 5 files (versions 5 to 7.2), from bytes that may be damaged.

SciPy's `loadmat` is not made for these: one wrong byte in the type code of an element crashes the process.
What is needed of the format is short: elements of a type, a size and their bytes, some of them compressed.
MathWorks describes it in "MAT-File Format".
"""

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

import numpy as np

from beamkd.base import InputError

HEADER = 128
"""Bytes of text and version before the first element; the last four tell version and byte order."""

ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}

MATRIX, COMPRESSED = 14, 15
"""Types of the elements that hold variables."""

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of the elements that hold numbers."""

NUMERIC = range(6, 16)
"""Classes of arrays of numbers, double to uint64."""

OTHERS = {1: "cells", 2: "a structure", 3: "an object", 4: "text", 5: "a sparse matrix"}
"""Some of the other classes."""

COMPLEX = 0x800
"""Flag of an array that has an imaginary part."""

MOST_ELEMENTS = 1000
"""Elements of a file that are looked through for the variable. Each variable is one."""

MOST_PARTS = 6
"""Elements within a variable that are looked at; one of numbers has up to five: flags, shape, name, two contents."""


def read_matrix(content: bytes, name: str, largest: int) -> np.ndarray:
    """A variable of a .mat.

    Args:
      content: the file's bytes.
      name: of the variable.
      largest: bytes that the file's compressed variables may inflate to, all together.

    Returns:
      An array of the variable's shape, float64, or complex128 if it has an imaginary part.

    Raises:
      InputError: not a .mat of these versions, damaged, or without such a variable of numbers.
    """
    expected = f"expected a .mat with numbers in variable {name!r}, found"
    order = ORDERS.get(content[HEADER - 4 : HEADER])
    if order is None:
        raise InputError(f"{expected} the start of another format, {content[:16]!r}")
    found = []
    try:
        for parts in _variables(content[HEADER:], order, largest):
            flags, shape, label = _heading(parts, order)
            numeric = flags & 0xFF in NUMERIC
            if label == name and numeric:
                return _array(parts, order, flags, shape)
            found.append(f"{label!r:.80} of {'numbers' if numeric else OTHERS.get(flags & 0xFF, 'another class')}")
    except (ValueError, struct.error, zlib.error) as error:
        raise InputError(f"{expected} a damaged or too large one: {error}") from error
    raise InputError(f"{expected} {', '.join(found[:8]) or 'no variable'}")


def _variables(content: bytes, order: str, largest: int) -> Iterator[list[tuple[int, bytes]]]:
    """The first elements of each variable: flags, shape, name, contents."""
    left = largest
    for number, (kind, body) in enumerate(_elements(content, order)):
        if number == MOST_ELEMENTS:
            raise ValueError(f"more than {MOST_ELEMENTS:,} elements")
        if kind == COMPRESSED:
            inflator = zlib.decompressobj()
            inflated = inflator.decompress(body, left + 1)  # one more tells too long from just fitting; 0 is no limit
            left -= len(inflated)
            if left < 0 or not inflator.eof:
                raise ValueError(f"compressed variables are cut off, or of more than {largest:,} bytes together")
            kind, body = next(_elements(inflated, order), (None, b""))
        if kind == MATRIX:
            yield list(islice(_elements(body, order), MOST_PARTS))


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of elements one after another."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        start, end = at + 8, at + 8 + size
        following = end if kind == COMPRESSED else end + -size % 8  # the others are padded to whole eights
        if kind >> 16:  # up to four bytes stand within the tag itself
            kind, size = kind & 0xFFFF, kind >> 16
            start, end, following = at + 4, at + 4 + size, at + 8
        if end > min(len(content), following):
            raise ValueError("an element is longer than what holds it")
        yield kind, content[start:end]
        at = following


def _heading(parts: list[tuple[int, bytes]], order: str) -> tuple[int, tuple[int, ...], str]:
    """Flags with the class in the lowest byte, shape, and name of a variable."""
    if len(parts) < 3:
        raise ValueError("a variable ends before its name")
    (_, flags), (_, shape), (_, label) = parts[:3]
    shape = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    return struct.unpack_from(order + "I", flags)[0], shape, label.decode("ascii", "replace")


def _array(parts: list[tuple[int, bytes]], order: str, flags: int, shape: tuple[int, ...]) -> np.ndarray:
    count = 2 if flags & COMPLEX else 1
    if len(parts) != 3 + count or any(kind not in NUMBERS for kind, _ in parts[3:]):
        raise ValueError("a variable without its numbers")
    if min(shape, default=-1) < 0:
        raise ValueError("a negative size")
    numbers = [np.frombuffer(body, order + NUMBERS[kind]).astype(np.float64) for kind, body in parts[3:]]
    if any(len(part) != math.prod(shape) for part in numbers):
        raise ValueError(f"{len(numbers[0])} numbers for the shape {str(list(shape)):.80}")
    array = numbers[0] if count == 1 else numbers[0] + 1j * numbers[1]
    return array.reshape(shape, order="F")
