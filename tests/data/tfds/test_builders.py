"""Both builders, prepared in a process without TensorFlow or network.

TFDS's own `DatasetBuilderTestCase` runs TensorFlow; what it checks of a builder is written out here.
"""

import itertools
import subprocess
import sys

import grain
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from beamkd.base import BEAMS, SCAN_RAYS, Drives, InputError
from beamkd.data import make_windows, open_drives, read_tfds, split_drives
from beamkd.data.tfds import frames
from beamkd.data.tfds.deepsense6g import SCENARIOS, DeepSense6g
from beamkd.data.tfds.frames import SENSORS, Recording, frame_features, known, part_of_drives, shards
from beamkd.data.tfds.street import BeamkdStreet, StreetConfig
from beamkd.sim import Street
from tests.data.tfds.prepare import DRIVES

NAMES = {"beamkd_street": "beamkd_street/nine", "deepsense6g": "deepsense6g/scenario9"}
PARTS = ("train", "val", "test")


def read(folder, name):
    path = folder / "datasets" / NAMES[name] / "1.0.0"
    return tfds.builder_from_directory(path)


@pytest.fixture(params=NAMES)
def builder(request, prepared):
    return read(prepared, request.param)


def test_builders_are_registered_with_their_configurations():
    assert [tfds.builder_cls(name) for name in NAMES] == [BeamkdStreet, DeepSense6g]
    assert set(DeepSense6g.builder_configs) == {f"scenario{number}" for number in SCENARIOS}
    assert set(BeamkdStreet.builder_configs) == {"default"}
    for builder in (BeamkdStreet, DeepSense6g):
        for config in builder.builder_configs.values():
            assert config.description and "\n" not in config.description
            assert config.description not in builder(config=config.name).info.description


def test_what_is_told_of_a_dataset_is_told(builder):
    info = builder.info
    assert info.name in NAMES and str(info.version) == "1.0.0" and "1.0.0" in builder.release_notes
    assert info.description and info.homepage.startswith("https://") and "@" in info.citation
    licences = {"beamkd_street": "Apache-2.0", "deepsense6g": "CC BY-NC-SA 4.0"}
    assert info.redistribution_info.license == licences[info.name]
    if info.name == "deepsense6g":
        assert "IEEE Communications Magazine" in info.citation and "2023" in info.citation
        assert "manual_dir" in DeepSense6g.MANUAL_DOWNLOAD_INSTRUCTIONS


def test_features_have_shapes_types_and_documentation(builder):
    features = builder.info.features
    expected = {"sensors": {"lidar": ((SCAN_RAYS,), np.float32)}, "power": ((BEAMS,), np.float32)}
    expected |= {"position": ((2,), np.float32), **dict.fromkeys(("drive", "slot", "frame"), ((), np.int32))}
    found = jax.tree.map(lambda info: (info.shape, info.np_dtype.type), features.get_tensor_info())
    assert found == expected
    for feature in [features["sensors"]["lidar"], *(features[name] for name in expected if name != "sensors")]:
        assert feature.doc.desc


def test_examples_are_as_the_features_say_and_counted(builder):
    for part in PARTS:
        examples = builder.as_data_source(split=part)
        assert len(examples) == builder.info.splits[part].num_examples > 0
        for example in (examples[0], examples[len(examples) - 1]):
            assert example["sensors"]["lidar"].shape == (SCAN_RAYS,) and example["power"].shape == (BEAMS,)
            assert {array.dtype for array in (example["sensors"]["lidar"], example["power"])} == {np.dtype("float32")}
    assert builder.info.splits.total_num_examples == sum(len(builder.as_data_source(split=part)) for part in PARTS)


def test_splits_share_no_drive_and_have_all_of_them(builder):
    drives = {part: {example["drive"] for example in builder.as_data_source(split=part)} for part in PARTS}
    assert [len(drives[part]) for part in PARTS] == [6, 1, 2]  # 70 and 15 % of nine, rounded down
    for one, other in itertools.combinations(PARTS, 2):
        assert not drives[one] & drives[other]
    assert set().union(*drives.values()) == set(range(1, DRIVES + 1))


def test_frames_have_numbers_of_their_own_and_a_split_is_in_order(builder):
    numbers = {part: [example["frame"] for example in builder.as_data_source(split=part)] for part in PARTS}
    assert all(found == sorted(found) for found in numbers.values())
    assert sorted(itertools.chain(*numbers.values())) == list(range(builder.info.splits.total_num_examples))


def test_a_split_takes_as_many_files_as_its_size_asks_for(prepared):
    lengths = read(prepared, "beamkd_street").info.splits["train"].shard_lengths
    assert len(lengths) == 2  # three drives each
    drive = np.asarray(open_drives(prepared / "drives").drive)
    assert lengths == [int((drive <= 3).sum()), int(((drive > 3) & (drive <= 6)).sum())]


def test_splits_are_those_of_experiments_in_order(prepared):
    windows = make_windows(open_drives(prepared / "drives"))
    split = split_drives(jax.random.key(0), windows, "inorder")
    for part in PARTS:
        expected = set(windows.drive[getattr(split, part).index])
        assert {example["drive"] for example in read(prepared, "beamkd_street").as_data_source(split=part)} == expected


def test_a_prepared_dataset_is_found_again_by_name(prepared):
    folder = prepared / "datasets"
    builder = tfds.builder("deepsense6g/scenario9", data_dir=folder)
    assert builder.is_prepared() and builder.info.splits["test"].num_examples > 0
    builder.download_and_prepare()  # does nothing, or it would ask for manual_dir
    again = tfds.data_source("deepsense6g/scenario9", split="val", data_dir=folder)
    assert again[3]["slot"] == 3


def test_grain_reads_frames_at_random(prepared):
    source = read(prepared, "beamkd_street").as_data_source(split="train")
    drives = open_drives(prepared / "drives")
    seen = []
    for batch in grain.MapDataset.source(source).shuffle(seed=0).batch(16).to_iter_dataset():
        np.testing.assert_array_equal(batch["sensors"]["lidar"], drives.sensors["lidar"][batch["frame"]])
        np.testing.assert_array_equal(batch["power"], drives.power[batch["frame"]])
        seen += batch["frame"].tolist()
    assert seen != sorted(seen) and sorted(seen) == list(range(len(source)))


def test_windows_are_read_at_random_from_the_files_as_from_memory(prepared):
    source = read(prepared, "deepsense6g").as_data_source(split="train")
    windows = make_windows(read_tfds(prepared / "datasets" / "deepsense6g", [], parts=["train"]))
    whole = make_windows(read_tfds(prepared / "datasets" / "deepsense6g", parts=["train"]))
    observed = np.asarray(windows.observed)

    def window(row):
        return np.stack([frame["sensors"]["lidar"] for frame in source.__getitems__(observed[row].tolist())])

    rows = grain.MapDataset.range(len(windows)).shuffle(seed=1)[:8]
    for row in rows:
        np.testing.assert_array_equal(window(row), whole.frames.sensors["lidar"][whole.observed[row]])


def test_an_import_of_beamkd_does_not_wait_for_tfds():
    code = "import sys, beamkd.data, experiments.common.flags; sys.exit('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", SENSORS)
def test_any_sensor_has_a_feature_that_keeps_its_bits(name):
    rng, array = np.random.default_rng(0), SENSORS[name]
    frame = rng.integers(0, 256, (array.bytes,), np.uint8).view(array.dtype).reshape(array.shape)
    features = frame_features(known([name]), beams=3)
    numbers = {"drive": 1, "slot": 2, "frame": 3}
    power, position = np.zeros(3, np.float32), np.full(2, np.nan, np.float32)
    example = {"sensors": {name: frame}, "power": power, "position": position, **numbers}
    found = features.deserialize_example_np(features.serialize_example(example))
    assert found["sensors"][name].tobytes() == frame.tobytes() and found["sensors"][name].dtype == array.dtype
    assert np.isnan(found["position"]).all() and {key: found[key] for key in numbers} == numbers


@pytest.mark.parametrize("sensors", [(), ("sonar",), "lidar"])
def test_sensors_that_are_not_known_are_refused(sensors, tmp_path):
    with pytest.raises(InputError, match="sensors: expected names out of"):
        BeamkdStreet(data_dir=tmp_path, config=StreetConfig(name="other", sensors=sensors))


def test_too_few_drives_for_three_splits_are_refused_and_nothing_is_left(tmp_path):
    builder = BeamkdStreet(data_dir=tmp_path, config=StreetConfig(name="few", drives=6))
    with pytest.raises(InputError, match="expected 7 or more"):
        builder.download_and_prepare()
    assert not list((tmp_path / "beamkd_street" / "few").rglob("*"))


def test_a_street_of_other_beams_has_features_of_as_many(tmp_path):
    config = StreetConfig(name="wide", street=Street(beams=32))
    assert BeamkdStreet(data_dir=tmp_path, config=config).info.features["power"].shape == (32,)


def recording(lengths, most):
    """A recording of drives of these lengths, in pieces of `most` frames."""
    drive = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    pairs = np.zeros((len(drive), 2), np.float32)
    drives = Drives({"gps": pairs}, pairs, pairs, drive, drive)
    number = np.arange(len(drive))
    pieces = (
        (number[first : first + most], jax.tree.map(lambda array, first=first: array[first : first + most], drives))
        for first in range(0, len(drive), most)
    )
    return Recording(part_of_drives(range(len(lengths))), max(lengths), pieces)


def test_files_hold_whole_drives_and_are_generated_as_they_are_written(monkeypatch):
    monkeypatch.setattr(frames, "SHARD_BYTES", 8 * 5 * 2)  # two drives of five frames
    generated = []
    source = recording([5, 3, 4, 2, 5, 1, 5, 5, 5, 2], most=4)
    source = source._replace(pieces=(generated.append(len(piece[0])) or piece for piece in source.pieces))
    files = shards(source, known(["gps"]))
    assert {part: len(own) for part, own in files.items()} == {"train": 4, "val": 1, "test": 1}
    first = list(files["train"][0]())
    assert [example["drive"] for _, example in first] == [0] * 5 + [1] * 3
    assert sum(generated) <= 12, "the rest was not generated yet"
    rest = [[number for number, _ in file()] for file in [*files["train"][1:], *files["val"], *files["test"]]]
    assert [number for number, _ in first] + list(itertools.chain(*rest)) == list(range(37))


def test_files_out_of_order_are_refused():
    files = shards(recording([5] * 10, most=50), known(["gps"]))
    with pytest.raises(InputError, match="expected those of file 0 of val"):
        files["val"][0]()
