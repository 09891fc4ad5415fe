"""Published weights: the real file, where it is at hand, a hand-made one, and all that can be wrong with a file."""

import io
import itertools
import struct
import tracemalloc
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from beamkd.base import InputError
from beamkd.models import (
    CollaborativeStudent,
    GruTeacher,
    LongTermStudent,
    RadarLeNet,
    count_weights,
    load_published,
    published_model,
)

PUBLISHED = Path(__file__).parents[2] / ".." / "shared" / "data" / "teacher_gru_scenario8.npz"
R, E, H, M = 5, 3, 2, 4


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    shapes = {
        "embed.weight": (E, R),
        "embed.bias": (E,),
        "gru.weight_ih_l0": (3 * H, E),
        "gru.weight_hh_l0": (3 * H, H),
        "gru.bias_ih_l0": (3 * H,),
        "gru.bias_hh_l0": (3 * H,),
        "fc.weight": (M, H),
        "fc.bias": (M,),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def refused(tmp_path):
    """A function that loads a file, which must fail in one line that names it; returns that line."""

    def load(path):
        with pytest.raises(InputError) as caught:
            load_published(path)
        text = str(caught.value)
        assert "\n" not in text
        assert str(path) in text
        return text

    return load


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="published weights are not at hand")
def test_the_published_network_gives_its_authors_logits_moved_by_one_beam():
    module, params = load_published(PUBLISHED)
    assert module == GruTeacher(embed=64, hidden=64, dropout=0.0, beams=64)
    assert count_weights(params) == 43_008
    with np.load(PUBLISHED) as archive:
        scans, logits = archive["check_input"], archive["check_logits"]
    np.testing.assert_array_equal(scans[:, 8:], 0)
    found = jax.jit(module.apply)(params, scans).logits
    np.testing.assert_allclose(found[..., 1:], logits[..., :-1], atol=1e-5)
    np.testing.assert_allclose(found[..., 0], logits[..., -1], atol=1e-5)
    short = jax.jit(module.apply, static_argnames="future")(params, scans[:, :8], future=3).logits
    np.testing.assert_allclose(short, found, atol=1e-5)


def test_output_k_of_a_hand_made_network_becomes_the_logit_of_beam_k_plus_one(arrays, tmp_path, pytorch_gru):
    np.savez(tmp_path / "net.npz", **arrays, check_input=np.zeros(3))
    module, params = load_published(tmp_path / "net.npz")
    assert (module.embed, module.hidden, module.beams) == (E, H, M)
    scans = np.random.default_rng(1).normal(size=(2, 4, R)).astype(np.float32)
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    codes = scans @ wide["embed.weight"].T + wide["embed.bias"]
    gru = [wide[f"gru.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    outputs = pytorch_gru(codes, *gru) @ wide["fc.weight"].T + wide["fc.bias"]
    found = jax.jit(module.apply)(params, scans).logits
    np.testing.assert_allclose(found[..., 1:], outputs[..., :-1], atol=1e-5)
    np.testing.assert_allclose(found[..., 0], outputs[..., -1], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4"])
def test_weights_of_any_float_become_float32(arrays, tmp_path, dtype):
    np.savez(tmp_path / "net.npz", **{name: array.astype(dtype) for name, array in arrays.items()})
    found = load_published(tmp_path / "net.npz")[1]["params"]
    np.testing.assert_array_equal(found["Linear_0"]["kernel"], arrays["embed.weight"].T.astype(dtype).astype("f4"))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


def test_loaded_weights_have_the_tree_that_the_module_makes_itself(arrays, tmp_path):
    np.savez(tmp_path / "net.npz", **arrays)
    module, params = load_published(tmp_path / "net.npz")
    own = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 1, R)))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, own)


def test_a_missing_file_is_named(tmp_path, refused):
    assert "found no file" in refused(tmp_path / "none.npz")
    assert "found no file" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off", b"\x80\x04N."])
def test_a_file_that_is_no_archive_is_refused(tmp_path, refused, content):
    (tmp_path / "net.npz").write_bytes(content)
    refused(tmp_path / "net.npz")


def test_a_single_array_is_refused(tmp_path, refused):
    with open(tmp_path / "net.npz", "wb") as file:
        np.save(file, np.zeros(3))
    refused(tmp_path / "net.npz")


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_a_truncated_file_is_refused_wherever_it_ends(arrays, tmp_path, refused, writer):
    path = tmp_path / "net.npz"
    writer(path, **arrays)
    content = path.read_bytes()
    for end in range(1, len(content), 97):
        path.write_bytes(content[:end])
        refused(path)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_a_damaged_byte_is_refused_or_changes_nothing(arrays, tmp_path, writer):
    path = tmp_path / "net.npz"
    writer(path, **arrays)
    content = path.read_bytes()
    expected = jax.tree.leaves(load_published(path))
    refusals = 0
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            found = jax.tree.leaves(load_published(path))
        except InputError as error:
            assert "\n" not in str(error)
            refusals += 1
        else:
            for a, b in zip(found[1:], expected[1:], strict=True):
                np.testing.assert_array_equal(a, b)
    assert refusals > len(content) // 20


class Explosive:
    def __reduce__(self):
        return exec, ("raise RuntimeError('unpickled')",)


def test_pickled_objects_are_refused_unopened(arrays, tmp_path, refused):
    arrays["gru.bias_hh_l0"] = np.array([Explosive()], dtype=object)
    np.savez(tmp_path / "net.npz", **arrays)
    assert "unpickled" not in refused(tmp_path / "net.npz")


def test_an_entry_that_is_no_array_is_refused(arrays, tmp_path, refused):
    path = tmp_path / "net.npz"
    del arrays["fc.bias"]
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("fc.bias.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (((,  \n" + bytes(16))
    refused(path)


def test_an_entry_of_absurd_size_is_refused(arrays, tmp_path, refused):
    path = tmp_path / "net.npz"
    del arrays["fc.bias"]
    np.savez(path, **arrays)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("fc.bias.npy", header.getvalue() + bytes(16))
    refused(path)


@pytest.fixture
def refused_early(refused):
    """The same as `refused`, within 2 MiB of memory."""

    def load(path):
        tracemalloc.start()
        try:
            text = refused(path)
            assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
        finally:
            tracemalloc.stop()
        return text

    return load


def zeros(hidden):
    """Arrays of a network that compress a thousand times."""
    gru = {
        "weight_ih": (3 * hidden, E),
        "weight_hh": (3 * hidden, hidden),
        "bias_ih": 3 * hidden,
        "bias_hh": 3 * hidden,
    }
    shapes = {f"gru.{name}_l0": shape for name, shape in gru.items()} | {"fc.weight": (M, hidden), "fc.bias": M}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def test_a_network_too_large_is_refused_before_it_is_inflated(arrays, tmp_path, refused_early):
    path = tmp_path / "net.npz"
    np.savez_compressed(path, **{**arrays, **zeros(1700)})
    assert path.stat().st_size < 100_000
    assert "bytes in all entries, more than 33,554,432" in refused_early(path)


def test_arrays_are_counted_together_also_those_that_are_not_used(arrays, tmp_path, refused_early):
    half = np.zeros(17 * 2**20, np.uint8)
    np.savez_compressed(tmp_path / "net.npz", **arrays, check_input=half)
    load_published(tmp_path / "net.npz")
    np.savez_compressed(tmp_path / "net.npz", **arrays, check_input=half, check_logits=half)
    assert "bytes in all entries" in refused_early(tmp_path / "net.npz")


@pytest.mark.parametrize("claim", [40, 1000, 3_000_000])
def test_a_directory_that_claims_less_than_there_is_saves_nothing(arrays, tmp_path, refused_early, claim):
    path = tmp_path / "net.npz"
    np.savez_compressed(path, **{**arrays, **zeros(1700)})
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        size = struct.unpack_from("<I", content, at + 24)[0]
        struct.pack_into("<I", content, at + 24, min(size, claim))
        at = content.find(b"PK\x01\x02", at + 4)
    path.write_bytes(content)
    refused_early(path)


def test_shapes_are_compared_before_data_are_read(arrays, tmp_path, refused_early):
    np.savez_compressed(tmp_path / "net.npz", **{**arrays, **zeros(1500), "fc.bias": arrays["fc.bias"][1:]})
    assert "expected fc.bias of shape (4,), float, found (3,)" in refused_early(tmp_path / "net.npz")
    np.savez_compressed(tmp_path / "net.npz", **{**arrays, "fc.bias": np.zeros(30 * 2**20, np.uint8)})
    assert "found (31457280,), uint8" in refused_early(tmp_path / "net.npz")


def test_a_shape_beyond_what_its_entry_holds_is_refused(arrays, tmp_path, refused_early):
    path, large = tmp_path / "net.npz", zeros(1700)
    np.savez_compressed(path, **{name: array for name, array in {**arrays, **large}.items() if array.nbytes < 2**20})
    header = io.BytesIO()
    shape = large["gru.weight_hh_l0"].shape
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("gru.weight_hh_l0.npy", header.getvalue() + bytes(16))
    assert "for the shape (5100, 1700)" in refused_early(path)


def test_a_header_without_end_is_refused(arrays, tmp_path, refused_early):
    path, size = tmp_path / "net.npz", 20 * 2**20
    del arrays["fc.bias"]
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fc.bias.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", size) + b" " * size)
    refused_early(path)


def test_entries_are_counted(arrays, tmp_path, refused_early):
    np.savez(tmp_path / "net.npz", **arrays, **{str(i): np.zeros(1, np.int8) for i in range(256 - len(arrays))})
    load_published(tmp_path / "net.npz")
    with zipfile.ZipFile(tmp_path / "net.npz", "a") as archive:
        archive.writestr("one more", b"")
    assert "more than 256 entries" in refused_early(tmp_path / "net.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_compressions_that_can_be_bounded_are_inflated(arrays, tmp_path, refused_early, compression):
    np.savez(tmp_path / "plain.npz", **arrays)
    with (
        zipfile.ZipFile(tmp_path / "plain.npz") as plain,
        zipfile.ZipFile(tmp_path / "net.npz", "w", compression) as net,
    ):
        for name in plain.namelist():
            net.writestr(name, plain.read(name))
    assert "compression" in refused_early(tmp_path / "net.npz")


def test_a_file_too_large_is_refused(tmp_path, refused):
    with open(tmp_path / "net.npz", "wb") as file:
        file.truncate(2**25 + 1)
    assert "more than 33,554,432 bytes" in refused(tmp_path / "net.npz")


@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_of_no_length_is_refused(arrays, tmp_path, refused, axis):
    arrays["embed.weight"] = np.zeros((0, R) if axis == 0 else (E, 0), np.float32)
    if axis == 0:
        arrays |= {"embed.bias": arrays["embed.bias"][:0], "gru.weight_ih_l0": arrays["gru.weight_ih_l0"][:, :0]}
    np.savez(tmp_path / "net.npz", **arrays)
    assert "expected embed.weight of shape ('E', 'R')" in refused(tmp_path / "net.npz")


NAMES = [
    "embed.weight",
    "embed.bias",
    "gru.weight_ih_l0",
    "gru.weight_hh_l0",
    "gru.bias_ih_l0",
    "gru.bias_hh_l0",
    "fc.weight",
    "fc.bias",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_array_that_is_missing_or_unfit_is_named(arrays, tmp_path, refused, name):
    path, good = tmp_path / "net.npz", arrays[name]
    np.savez(path, **{other: array for other, array in arrays.items() if other != name})
    assert f"none named {name}" in refused(path)
    for value in (np.nan, np.inf, 1e300):
        bad = good.astype(np.float64)
        bad.flat[-1] = value
        np.savez(path, **{**arrays, name: bad})
        assert f"finite numbers in {name}" in refused(path)
    for dtype in (np.int32, bool, np.complex64, "U4"):
        np.savez(path, **{**arrays, name: good.astype(dtype)})
        assert f"expected {name} of shape {good.shape}, float, found {good.shape}, " in refused(path)
    np.savez(path, **{**arrays, name: good[None]})
    assert f"expected {name} of shape" in refused(path)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "embed.weight"])
def test_an_array_of_other_length_is_refused(arrays, tmp_path, refused, name):
    # One more row of the embedding's bias or of the read-out must not pass for another embedding, nor a gate cut short.
    path = tmp_path / "net.npz"
    for more in (1, 3):
        wrong = np.concatenate([arrays[name]] + [arrays[name][:1]] * more)
        np.savez(path, **{**arrays, name: wrong})
        refused(path)


def test_gates_that_are_no_multiple_of_three_are_named(arrays, tmp_path, refused):
    arrays["gru.weight_ih_l0"] = arrays["gru.weight_ih_l0"][:-1]
    np.savez(tmp_path / "net.npz", **arrays)
    assert "gru.weight_ih_l0" in refused(tmp_path / "net.npz")


RADAR = PUBLISHED.with_name("radar_range_angle_scenario9.npz")


@pytest.mark.skipif(not RADAR.is_file(), reason="published weights are not at hand")
def test_the_published_radar_network_gives_its_authors_logits_moved_back_by_one_beam():
    module, params = load_published(RADAR)
    assert module == RadarLeNet() and count_weights(params) == 175_254
    with np.load(RADAR) as archive:
        maps, logits = archive["check_input"], archive["check_logits"]
    found = jax.jit(module.apply)(params, maps).logits[:, 0]  # its axis of channels is our axis of frames
    np.testing.assert_allclose(found, np.roll(logits, -1, axis=-1), atol=1e-4 * np.abs(logits).max())


@pytest.fixture
def lenet():
    rng = np.random.default_rng(0)
    shapes = {"fc1": (256, 512), "fc2": (128, 256), "fc3": (M, 128)}
    shapes |= {
        f"conv{i + 1}": (out, into, 3, 3) for i, (into, out) in enumerate(itertools.pairwise((1, 8, 16, 8, 4, 2)))
    }
    weights = {f"{name}.weight": rng.normal(size=shape) * np.prod(shape[1:]) ** -0.5 for name, shape in shapes.items()}
    return weights | {f"{name}.bias": rng.normal(size=shape[0]) for name, shape in shapes.items()}


def test_a_radar_network_is_that_of_its_formula(lenet, tmp_path):
    np.savez(tmp_path / "net.npz", **lenet)
    module, params = load_published(tmp_path / "net.npz")
    seen = np.random.default_rng(1).normal(size=(2, 256, 64))
    layer = seen[1:]
    for number in range(1, 6):
        weight, bias = lenet[f"conv{number}.weight"], lenet[f"conv{number}.bias"]
        sums = [sum(correlate2d(a, w, "same") for a, w in zip(layer, out, strict=True)) for out in weight]
        layer = np.stack(sums) + bias[:, None, None]
        if number >= 3:
            layer = layer.reshape(len(layer), layer.shape[1] // 2, 2, -1, 2).mean((2, 4))
        layer = np.maximum(layer, 0)
    layer = layer.reshape(-1)
    for number in (1, 2, 3):
        layer = lenet[f"fc{number}.weight"] @ layer + lenet[f"fc{number}.bias"]
        layer = np.maximum(layer, 0) if number < 3 else layer
    found = jax.jit(module.apply, static_argnames="future")(params, seen[None].astype(np.float32), future=2).logits
    assert found.shape == (1, 4, M)
    for slot in (1, 2, 3):  # the last frame, and the slots ahead
        np.testing.assert_allclose(found[0, slot], np.roll(layer, -1), rtol=1e-4, atol=1e-5)
    own = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 1, 256, 64)))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, own)


def test_an_array_that_a_radar_network_lacks_is_named(lenet, tmp_path, refused):
    np.savez(tmp_path / "net.npz", **{name: array for name, array in lenet.items() if name != "conv4.bias"})
    assert "none named conv4.bias" in refused(tmp_path / "net.npz")
    np.savez(tmp_path / "net.npz", **{**lenet, "fc1.weight": lenet["fc1.weight"][:, 1:]})
    assert "expected fc1.weight of shape (256, 512), float, found (256, 511)" in refused(tmp_path / "net.npz")


CAMERA = sorted(PUBLISHED.parent.glob("camera_*.npz"))


@pytest.mark.parametrize("path", CAMERA, ids=lambda path: path.stem)
def test_published_camera_networks_give_their_authors_logits(path):
    model = published_model(path, frames=7)
    assert model.inputs == {"masks": (7, 224, 224)}
    long_term = "longterm" in path.name
    assert model.module == (LongTermStudent(groups=0) if long_term else CollaborativeStudent(groups=0))
    assert count_weights(model.params) == (107_193 if long_term else 172_992)
    with np.load(path) as archive:
        masks, logits = np.unpackbits(archive["check_masks"], axis=-1), archive["check_logits"]
    future = 6 if long_term else 3
    assert not masks[:, -future:].any()
    seen = masks[:, :-future].astype(np.float32)
    found = jax.jit(model.module.apply, static_argnames="future")(model.params, seen, future=future).logits
    np.testing.assert_allclose(found, logits, atol=1e-3)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="published weights are not at hand")
def test_camera_networks_are_at_hand_where_the_others_are():
    assert len(CAMERA) == 9
