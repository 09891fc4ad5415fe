"""Prepared datasets read back: the drives that they were made of, and one line for each kind of bad folder."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from beamkd.base import InputError
from beamkd.data import (
    make_windows,
    on_host,
    open_drives,
    open_tfds,
    read_deepsense,
    read_tfds,
    store_drives,
    tfds_pieces,
)
from beamkd.data.tfds import source


@pytest.fixture
def street(prepared, tmp_path):
    """A copy of the street's prepared dataset: the folder of its version."""
    return shutil.copytree(prepared / "datasets" / "beamkd_street" / "nine" / "1.0.0", tmp_path / "street")


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for array, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert array.dtype == wanted.dtype and array.shape == wanted.shape
        assert np.asarray(array).tobytes() == np.asarray(wanted).tobytes()


@pytest.fixture
def simulated(prepared):
    """The drives of `simulate`, as they were stored."""
    return open_drives(prepared / "drives")


def test_the_street_is_read_back_to_the_last_bit(prepared, simulated):
    found = read_tfds(prepared / "datasets" / "beamkd_street")
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    same(found, simulated)
    same(make_windows(found), make_windows(jax.tree.map(np.array, simulated)))


def test_a_deepsense_folder_is_read_back_to_the_last_bit_in_its_order(prepared):
    found = read_tfds(prepared / "datasets" / "deepsense6g" / "scenario9")
    assert found.drive[0] == 9 and found.drive[-1] == 1
    same(found, read_deepsense(prepared / "scenario", 9))


def test_the_folder_may_be_that_of_any_level_above_one_dataset(prepared, street, simulated, tmp_path):
    (tmp_path / "data").mkdir()
    shutil.move(street, tmp_path / "data" / "1.0.0")
    same(read_tfds(tmp_path / "data" / "1.0.0"), simulated)
    same(read_tfds(tmp_path / "data"), simulated)
    nested = tmp_path / "tfds" / "beamkd_street"
    shutil.copytree(tmp_path / "data", nested / "nine")
    (nested / "nine" / "incomplete.ABC_1.0.0").mkdir()
    shutil.copy(nested / "nine" / "1.0.0" / "dataset_info.json", nested / "nine" / "incomplete.ABC_1.0.0")
    for folder in (nested, nested.parent):
        same(read_tfds(folder), simulated)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_pieces_are_bounded_and_together_the_whole(at_once, prepared, simulated, monkeypatch, tmp_path):
    monkeypatch.setattr(source, "PIECE_BYTES", at_once * 4 * (216 + 64 + 2))
    pieces = list(tfds_pieces(open_tfds(prepared / "datasets" / "deepsense6g"), parts=["val"]))
    assert {len(piece.slot) for piece in pieces[:-1]} <= {at_once} and len(pieces[-1].slot) <= at_once
    stored = store_drives(tmp_path / "kept", tfds_pieces(open_tfds(prepared / "datasets" / "beamkd_street")))
    assert on_host(make_windows(stored))
    same(stored, simulated)


def test_parts_are_read_alone_or_together_in_the_order_of_recording(prepared, simulated):
    folder = prepared / "datasets" / "beamkd_street"
    drive = np.asarray(simulated.drive)
    for parts, wanted in ((["val"], drive == 7), (["test", "train"], drive != 7)):
        same(read_tfds(folder, parts=parts), jax.tree.map(lambda array, rows=wanted: np.array(array)[rows], simulated))


def test_sensors_that_are_not_asked_for_are_left(prepared, simulated):
    same(read_tfds(prepared / "datasets" / "beamkd_street", sensors=[]), simulated.replace(sensors={}))


def test_what_is_known_of_the_origin_is_said(prepared, street):
    for name in ("beamkd_street/nine", "deepsense6g/scenario9"):  # the second is of a folder that beamkd wrote
        assert open_tfds(prepared / "datasets" / name).origin.startswith(f"{name}/1.0.0, written by beamkd: simulated")
    (street / "metadata.json").write_text("{}")
    assert open_tfds(street).origin == "beamkd_street/nine/1.0.0"


def refused(folder, **options):
    with pytest.raises(InputError) as caught:
        read_tfds(folder, **options)
    said = str(caught.value)
    assert len(said.splitlines()) == 1 and ("expected" in said or "cannot be read" in said), said
    return said


def test_folders_without_a_prepared_dataset_are_refused(prepared, street, tmp_path):
    assert "found nothing" in refused(tmp_path / "none")
    (tmp_path / "file").write_text("drives")
    assert "found a file" in refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "found 0" in refused(tmp_path / "empty")
    assert "found 2: beamkd_street/nine/1.0.0, deepsense6g/scenario9/1.0.0" in refused(prepared / "datasets")
    (tmp_path / "empty" / "link").symlink_to(street)
    assert "found 0" in refused(tmp_path / "empty")


def edit(street, name, change):
    path = street / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def put(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


INFO, FEATURES = "dataset_info.json", "features.json"
TENSOR = ("featuresDict", "features", "power", "tensor")
LIDAR = ("featuresDict", "features", "sensors", "featuresDict", "features", "lidar", "tensor")
BAD_METADATA = {
    "another version": (INFO, put("version", value="2.0.0"), "expected version 1.0.0, found '2.0.0'"),
    "another dataset": (INFO, put("name", value="mnist"), "expected name beamkd_street or deepsense6g"),
    "no name": (INFO, put("name", value=None), "expected name"),
    "TFRecord files": (INFO, put("fileFormat", value="tfrecord"), "expected fileFormat array_record"),
    "a configuration that is a path": (INFO, put("configName", value="../up"), "other characters"),
    "no splits": (INFO, put("splits", value=[]), "expected splits train, val, test, found []"),
    "a split that is a path": (INFO, put("splits", 0, "name", value="../up"), "expected splits train"),
    "splits that are none": (INFO, put("splits", value=7), "expected metadata as beamkd writes them"),
    "lengths of words": (INFO, put("splits", 0, "shardLengths", value=["many"]), "expected metadata"),
    "more files": (
        "dataset_info.json",
        put("splits", 1, "shardLengths", value=["40", "2"]),
        "-00000-of-00002, found none",
    ),
    "more frames": (INFO, put("splits", 1, "shardLengths", value=["1000"]), "not 1000"),
    "no features": (FEATURES, put("featuresDict", value={}), "expected metadata as beamkd writes them"),
    "an unknown type": (FEATURES, put(*TENSOR, "dtype", value="object"), "expected arrays of float32 or uint8"),
    "packed arrays": (FEATURES, put(*LIDAR, "encoding", value="zlib"), "expected arrays of float32 or uint8"),
    "no ray": (FEATURES, put(*LIDAR, "shape", "dimensions", value=["0"]), "expected arrays of float32"),
    "huge arrays": (
        "features.json",
        put(*LIDAR, "shape", "dimensions", value=["99999999"]),
        "at most 16,777,216 bytes",
    ),
    "more rays": (
        "features.json",
        put(*LIDAR, "shape", "dimensions", value=["217"]),
        "sensors/lidar of 864 bytes, not 868",
    ),
    "square powers": (FEATURES, put(*TENSOR, "shape", "dimensions", value=["8", "8"]), "expected power [beams]"),
}


@pytest.mark.parametrize("fault", BAD_METADATA)
def test_metadata_that_are_not_ours_are_refused_in_one_line(fault, street):
    name, change, said = BAD_METADATA[fault]
    edit(street, name, change)
    assert said in refused(street)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "metadata.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b" " * 2**20 + b"{}", None])
def test_metadata_that_are_no_json_are_refused_in_one_line(name, content, street):
    (street / name).unlink()
    if content is None:
        os.mkfifo(street / name)  # reading it would wait for ever
    else:
        (street / name).write_bytes(content)
    assert name in refused(street)


def test_classes_that_the_metadata_name_are_not_imported(street, monkeypatch, tmp_path):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    edit(street, "features.json", put("pythonClassName", value="planted.Features"))
    edit(street, "features.json", put("featuresDict", "features", "power", "pythonClassName", value="planted.Power"))
    edit(street, "dataset_info.json", put("moduleName", value="planted"))
    read_tfds(street)
    assert not (tmp_path / "ran").exists()


def records(street, part="val"):
    (path,) = street.glob(f"*-{part}.array_record-*")
    return path


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "no records", "a folder", "a link"])
def test_damaged_files_are_refused_with_their_name(damage, street, tmp_path):
    path = records(street)
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage != "missing":
        flipped = content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]
        damaged = {"empty": b"", "truncated": content[:-70_000], "flipped": flipped, "no records": b"drives" * 20_000}
        path.write_bytes(damaged[damage])
    assert path.name in refused(street)


def rewritten(street, change):
    """Replaces the validation frames by changed ones."""
    path = records(street)
    examples = [tf_example_pb2.Example.FromString(record) for record in ArrayRecordDataSource([str(path)])]
    path.unlink()
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for example in change(examples):
        writer.write(example if isinstance(example, bytes) else example.SerializeToString())
    writer.close()


def changed(name, values):
    def change(examples):
        feature = examples[3].features.feature[name]
        feature.Clear()
        (feature.bytes_list if isinstance(values[0], bytes) else feature.int64_list).value[:] = values
        return examples

    return change


BAD_FRAMES = {
    "no example": (lambda examples: [b"\xff" * 50, *examples[1:]], "expected records as they were written"),
    "a short array": (changed("power", [b"12"]), "power of 2 bytes, not 256"),
    "two arrays": (changed("power", [b"0" * 256] * 2), "expected records as they were written"),
    "an array that is a number": (changed("sensors/lidar", [7]), "expected records as they were written"),
    "a drive of bytes": (changed("drive", [b"one"]), "expected records as they were written"),
    "a large number": (changed("slot", [2**40]), "numbers beyond 32 bits"),
    "a frame's number": (changed("frame", [2**20]), "expected frames in order, found frame"),
    "frames exchanged": (lambda examples: [examples[1], examples[0], *examples[2:]], "expected frames in order"),
    "a slot twice": (changed("slot", [2]), "expected frames in order, found frame"),
    "no power": (changed("power", [np.full(64, np.nan, np.float32).tobytes()]), "expected powers finite"),
    "a power below nothing": (changed("power", [np.full(64, -1, np.float32).tobytes()]), "expected powers finite"),
}


@pytest.mark.parametrize("fault", BAD_FRAMES)
def test_frames_that_are_not_as_written_are_refused_in_one_line(fault, street):
    change, said = BAD_FRAMES[fault]
    rewritten(street, change)
    assert said in refused(street)


@pytest.mark.parametrize("options", [{"sensors": ["sonar"]}, {"sensors": "lidar"}, {"parts": ["all"]}, {"parts": []}])
def test_names_that_are_not_there_are_refused(options, street):
    refused(street, **options)
