"""Messages as bytes, and what of them is refused."""

import jax
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.collab import pack, size_of, unpack


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    layer = {"kernel": rng.normal(size=(3, 4)).astype(np.float32), "bias": np.arange(4, dtype=np.int32)}
    return {"weights": {"params": {"layer": layer}}, "windows": np.int32(7), "known": np.bool_(True)}


def test_arrays_come_back_as_they_went(arrays):
    found = unpack(pack(arrays), arrays)
    assert jax.tree.structure(found) == jax.tree.structure(arrays)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(arrays), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_their_size_follows_from_their_shapes(arrays):
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arrays)
    data = pack(arrays)
    header = 8 + int.from_bytes(data[:8], "little")
    assert size_of(arrays) == size_of(shapes) == len(data) == header + 12 * 4 + 4 * 4 + 4 + 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data, arrays: b"no arrays at all", "expected arrays, found"),
        (lambda data, arrays: data[:-2], "expected arrays, found"),
        (lambda data, arrays: pack({"windows": arrays["windows"]}), "expected .*known.*, found windows$"),
        (lambda data, arrays: pack(arrays | {"windows": np.int32([7])}), r"expected windows \(\) int32, found \(1,\)"),
        (lambda data, arrays: pack(arrays | {"windows": np.float32(7)}), r"expected windows \(\) int32, found \(\) fl"),
    ],
)
def test_other_bytes_are_refused_in_one_line(arrays, change, told):
    with pytest.raises(InputError, match=f"^message: {told}"):
        unpack(change(pack(arrays), arrays), arrays)
