import io

import numpy as np
import pytest
from scipy.io import savemat

from beamkd.base import InputError
from beamkd.data.matfile import read_matrix

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
