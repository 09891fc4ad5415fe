import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from beamkd.base import InputError
from beamkd.data.deepsense import matfile
from beamkd.data.deepsense.matfile import read_matrix

PLENTY = 2**20
RNG = np.random.default_rng(0)

ARRAYS = {
    "scan": RNG.normal(size=(216, 2)),
    "float32": RNG.normal(size=(5, 3)).astype(np.float32),
    "bytes": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "one byte": np.array([[7]], np.uint8),
    "complex": RNG.normal(size=(4, 8, 3)) + 1j * RNG.normal(size=(4, 8, 3)),
    "negative integers": np.arange(-6, 0, dtype=np.int16).reshape(2, 3),
    "empty": np.zeros((0, 3)),
}


def saved(compressed: bool, **variables) -> bytes:
    content = io.BytesIO()
    savemat(content, variables, do_compression=compressed)
    return content.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ARRAYS)
def test_what_scipy_writes_is_read_exactly(kind, compressed):
    content = saved(compressed, name="text first", data=ARRAYS[kind], more=np.ones(3))
    data = read_matrix(content, "data", PLENTY)
    assert data.dtype == (np.complex128 if kind == "complex" else np.float64)
    np.testing.assert_array_equal(data, ARRAYS[kind])


def test_a_file_of_the_other_byte_order_is_read():
    def element(kind, body):
        return np.array([kind, len(body)], ">u4").tobytes() + body + bytes(-len(body) % 8)

    numbers = np.array([[1.5, -2.0, 3.0]])
    parts = [
        (6, np.array([6, 0], ">u4").tobytes()),
        (5, np.array([1, 3], ">i4").tobytes()),
        (1, b"data"),
        (9, numbers.astype(">f8").tobytes()),
    ]
    content = bytes(124) + b"\x01\x00MI" + element(14, b"".join(element(*part) for part in parts))
    np.testing.assert_array_equal(read_matrix(content, "data", PLENTY), numbers)


@pytest.mark.parametrize("compressed", [False, True])
def test_any_damage_gives_numbers_or_one_line(compressed):
    whole = saved(compressed, data=RNG.normal(size=(20, 2)))
    rng = np.random.default_rng(1)
    for _ in range(3000):
        content = bytearray(whole)
        for at in rng.integers(100, len(content), 2):
            content[at] = rng.integers(256)
        try:
            read_matrix(bytes(content[: rng.integers(1, 2 * len(content))]), "data", PLENTY)
        except InputError as error:
            assert len(str(error).splitlines()) == 1


def test_a_missing_variable_is_refused_with_what_was_found():
    with pytest.raises(InputError, match="'data', found 'other' of numbers"):
        read_matrix(saved(False, other=np.ones(3)), "data", PLENTY)


def test_a_variable_may_inflate_to_the_given_size_only():
    content = saved(True, data=np.zeros(10_000))
    assert read_matrix(content, "data", 81_000).size == 10_000
    with pytest.raises(InputError, match="more than 79,000 bytes"):
        read_matrix(content, "data", 79_000)


@pytest.fixture
def cost(monkeypatch):
    """Bytes inflated and elements looked at so far, by name."""
    counts = {"inflated": 0, "elements": 0}
    elements = matfile._elements

    class Inflator:
        def __init__(self):
            self.inner = zlib.decompressobj()

        def decompress(self, body, most):
            inflated = self.inner.decompress(body, most)
            counts["inflated"] += len(inflated)
            return inflated

        @property
        def eof(self):
            return self.inner.eof

    class Zlib:
        decompressobj, error = Inflator, zlib.error

    def counted(content, order):
        for element in elements(content, order):
            counts["elements"] += 1
            yield element

    monkeypatch.setattr(matfile, "zlib", Zlib)
    monkeypatch.setattr(matfile, "_elements", counted)
    return counts


def compressed(body: bytes) -> bytes:
    """A compressed element."""
    packed = zlib.compress(body)
    return struct.pack("<II", 15, len(packed)) + packed


def variable(*more: bytes, name: bytes = b"x") -> bytes:
    """A variable of numbers, which has further elements after its name."""
    label = struct.pack("<II", 1, len(name)) + name + bytes(-len(name) % 8)
    parts = struct.pack("<4I", 6, 8, 6, 0) + struct.pack("<4I", 5, 8, 1, 1) + label + b"".join(more)
    return struct.pack("<II", 14, len(parts)) + parts


START = bytes(124) + b"\x00\x01IM"


def refused(content: bytes, largest: int) -> str:
    with pytest.raises(InputError) as caught:
        read_matrix(content, "data", largest)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("others", [2, 900])
def test_all_variables_together_may_inflate_to_the_given_size_only(cost, others):
    other = variable(bytes(2**18))
    content = START + compressed(other) * others + saved(True, data=np.ones(3))[128:]
    assert "bytes together" in refused(content, len(other) + 10)
    assert cost["inflated"] <= len(other) + 11
    assert "bytes together" in refused(content, len(other))  # nothing is left, which zlib takes for no limit
    np.testing.assert_array_equal(read_matrix(content, "data", 1000 * len(other)), np.ones((1, 3)))


def test_elements_within_a_variable_are_not_all_looked_at(cost):
    content = START + compressed(variable(bytes(2**18))) * 10  # 32,768 empty elements each
    assert "'x' of numbers" in refused(content, 2**22)
    assert cost["elements"] < 100


@pytest.mark.parametrize("pack", [bytes, compressed])
@pytest.mark.parametrize("body", [bytes(8), variable()], ids=["empty", "variable"])
def test_elements_of_a_file_are_counted(cost, pack, body):
    element = pack(body)
    last = saved(False, data=np.ones(3))[128:]
    np.testing.assert_array_equal(read_matrix(START + element * 999 + last, "data", PLENTY), np.ones((1, 3)))
    cost["elements"] = 0
    assert "more than 1,000 elements" in refused(START + element * 1000 + last, PLENTY)
    assert cost["elements"] < 6000


def test_a_long_name_is_told_in_short(cost):
    refused(START + variable(name=b"\x01" * 200_000) * 2, PLENTY)
    refused(START + variable(bytes(8), name=b"data")[:40] + bytes(8), PLENTY)
