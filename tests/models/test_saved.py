"""Networks in files: what was saved is loaded, and what does not fit is refused in one line."""

import json
import pickle
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import linen as nn

from beamkd.base import InputError, Model, as_taken
from beamkd.models import (
    CnnGruTeacher,
    CollaborativeStudent,
    CollaborativeTeacher,
    Generator,
    GruStudent,
    GruTeacher,
    LongTermStudent,
    LongTermTeacher,
    NearestNeighbours,
    OccupancyCnn,
    PatchStudent,
    PositionNetwork,
    PositionTable,
    RadarLeNet,
    SceneGenerator,
    SensorStudent,
    SensorTeacher,
    load_network,
    save_network,
)
from beamkd.models.saved import ENTRY, MODULES

MODELS = {
    "CnnGruTeacher": (CnnGruTeacher(channels=(3, 4), embed=5, hidden=6, beams=7), {"lidar": (8, 40)}),
    "GruTeacher": (GruTeacher(embed=5, hidden=6, dropout=0.25), {"lidar": (2, 30)}),
    "GruStudent": (GruStudent(), {"lidar": (8, 216)}),
    "PatchStudent": (PatchStudent(rays=3, channels=2), {"lidar": (8, 20)}),
    "Generator": (Generator(noise=9, hidden=4, frames=3, rays=10), {"noise": (9,)}),
    "LongTermTeacher": (LongTermTeacher((2, 3, 4, 5, 6), (7, 6), hidden=6, heads=3), {"masks": (7, 32, 32)}),
    "CollaborativeTeacher": (CollaborativeTeacher((2, 3, 4, 5, 6), (7, 6)), {"masks": (2, 32, 64)}),
    "LongTermStudent": (LongTermStudent(channels=(2, 4, 6, 8), hidden=6, heads=3), {"masks": (7, 16, 16)}),
    "CollaborativeStudent": (CollaborativeStudent(channels=(2, 3, 4), groups=0), {"masks": (2, 20, 16)}),
    "NearestNeighbours": (NearestNeighbours(neighbours=2, examples=7, beams=5), {"gps": (1, 2)}),
    "OccupancyCnn": (OccupancyCnn(channels=(2, 3), hidden=4), {"lidar": (1, 30)}),
    "PositionNetwork": (PositionNetwork(hidden=(4, 3, 5)), {"gps": (8, 2)}),
    "PositionTable": (PositionTable(bins=3, beams=5), {"gps": (1, 2)}),
    "RadarLeNet": (RadarLeNet(channels=(2, 3, 2, 2, 2), hidden=(4, 3), beams=5), {"radar": (2, 16, 8)}),
    "SceneGenerator": (SceneGenerator(objects=2, ahead=3), {"noise": (64,)}),
    "SensorStudent": (SensorStudent(("radar",), channels=(2, 3)), {"radar": (8, 16, 8)}),
    "SensorTeacher": (SensorTeacher(("lidar", "gps"), (2, 3), 4, 5), {"gps": (4, 2), "lidar": (4, 30)}),
}


def built(module, inputs):
    """The module with random weights."""
    rng = np.random.default_rng(0)
    example = {name: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for name, shape in inputs.items()}
    shapes = jax.eval_shape(module.init, jax.random.key(0), as_taken(example))
    return Model(
        module, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes), inputs
    )


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Bytes of a saved student."""
    path = tmp_path_factory.mktemp("saved") / "student"
    save_network(path, built(*MODELS["GruStudent"]))
    return path.read_bytes()


@pytest.fixture
def student(content, tmp_path):
    """A saved student: its file."""
    path = tmp_path / "student.safetensors"
    path.write_bytes(content)
    return path


@pytest.fixture
def refused():
    """refused(path) -> the one line that loading is refused with."""

    def refused(path):
        with pytest.raises(InputError) as caught:
            load_network(path)
        assert str(caught.value).startswith(f"{path}: expected ")
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 500
        return str(caught.value)

    return refused


def test_a_field_that_was_added_since_a_file_was_written_has_its_default(student):
    rewrite(student, {"fields": {name: value for name, value in FIELDS.items() if name != "dropout"}})
    assert load_network(student).module == GruStudent()


def test_every_module_that_can_be_saved_is_tried():
    assert set(MODELS) == set(MODULES)


@pytest.mark.parametrize("name", MODELS)
def test_what_was_saved_is_loaded(name, tmp_path):
    model = built(*MODELS[name])
    save_network(str(tmp_path / "net.safetensors"), model)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
    found = load_network(str(tmp_path / "net.safetensors"))
    assert found.module == model.module and found.inputs == model.inputs
    jax.tree.map(np.testing.assert_array_equal, found.params, model.params)


def test_the_same_network_makes_the_same_bytes(student, tmp_path):
    save_network(tmp_path / "again", load_network(student))
    assert (tmp_path / "again").read_bytes() == student.read_bytes()


def test_what_is_no_module_of_ours_is_not_saved(tmp_path):
    class GruStudent(nn.Module):
        pass

    for module in (nn.Dense(3), GruStudent()):
        with pytest.raises(InputError, match="expected one of .*CnnGruTeacher, .* to save, found"):
            save_network(tmp_path / "net", Model(module, {}, {"lidar": (3,)}))
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a file to write to"):
        save_network(tmp_path / "nowhere" / "net", built(*MODELS["GruStudent"]))


FIELDS = {"embed": 16, "hidden": 24, "dropout": 0.1, "beams": 64}


def rewrite(path, about=None, weights=None, entry=ENTRY):
    """Write a file again with a changed description, by name, or changed weights."""
    told = {"module": "GruStudent", "fields": FIELDS, "inputs": {"lidar": [8, 216]}, **(about or {})}
    kept = safetensors.numpy.load_file(path) | (weights or {})
    kept = {name: value for name, value in kept.items() if value is not None}
    path.write_bytes(safetensors.numpy.save(kept, {entry: json.dumps(told)}))


def test_rewriting_itself_changes_nothing(student):
    before = student.read_bytes()
    rewrite(student)
    assert student.read_bytes() == before


@pytest.mark.parametrize(
    "about",
    [
        {"module": "os.system"},
        {"module": ["GruStudent"]},
        {"fields": []},
        {"fields": {**FIELDS, "evil": 1}},
        {"fields": {**FIELDS, "hidden": "24"}},
        {"fields": {**FIELDS, "hidden": 25}},
        {"fields": {**FIELDS, "hidden": -1}},
        {"fields": {**FIELDS, "hidden": 10**9}},
        {"fields": {**FIELDS, "hidden": True}},
        {"fields": {**FIELDS, "dropout": float("nan")}},
        {"fields": {**FIELDS, "dropout": [0.1]}},
        {"inputs": {"lidar": [8, 217]}},
        {"inputs": {"lidar": [8]}},
        {"inputs": {"lidar": []}},
        {"inputs": {"lidar": [0, 216]}},
        {"inputs": {"lidar": [8, 10**9]}},
        {"inputs": {"lidar": [1] * 1000}},
        {"inputs": {"lidar": "8, 216"}},
        {"inputs": {"lidar": [8, 216], "radar": [8, 216]}},
        {"inputs": {str(number): [8, 216] for number in range(1000)}},
        {"inputs": {}},
        {"inputs": [8, 216]},
        {"module": "CnnGruTeacher"},
        {"module": "CnnGruTeacher", "fields": {**FIELDS, "channels": [1] * 1000}},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_is_refused(about, student, refused):
    rewrite(student, about)
    assert "expected a network of beamkd" in refused(student)


@pytest.mark.parametrize(
    "sensors",
    [
        "lidar",
        [],
        ["sonar"],
        ["lidar", "lidar"],
        ["lidar", 1],
        [["lidar"]],
        ["gps"],
        ["lidar", "gps"],
        ["lidar"] * 1000,
    ],
    ids=lambda sensors: str(sensors)[:40],
)
def test_sensors_that_do_not_fit_are_refused(sensors, tmp_path, refused):
    path, module = tmp_path / "net", SensorStudent(("lidar",), channels=(2, 3))
    save_network(path, built(module, {"lidar": (8, 30)}))
    fields = {"channels": [2, 3], "embed": 16, "hidden": 24, "dropout": 0.1, "beams": 64}
    told = {"module": "SensorStudent", "inputs": {"lidar": [8, 30]}}
    rewrite(path, {**told, "fields": {"sensors": ["lidar"], **fields}})
    assert load_network(path).module == module
    rewrite(path, {**told, "fields": {"sensors": sensors, **fields}})
    assert "expected a network of beamkd" in refused(path)


WEIGHT = "params.Linear_0.bias"


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({WEIGHT: None}, "weights other than"),
        ({"params.more": np.zeros(3, np.float32)}, "weights other than"),
        ({WEIGHT: np.zeros(17, np.float32)}, f"{WEIGHT} of shape"),
        ({WEIGHT: np.zeros(16, np.float64)}, f"{WEIGHT} of shape"),
        ({WEIGHT: np.zeros(16, np.int32)}, f"{WEIGHT} of shape"),
        ({WEIGHT: np.full(16, np.nan, np.float32)}, "finite numbers in"),
        ({WEIGHT: np.full(16, np.inf, np.float32)}, "finite numbers in"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, told, student, refused):
    rewrite(student, weights=weights)
    assert told in refused(student)


def test_a_file_of_others_is_refused(student, refused):
    rewrite(student, entry="format")
    assert "no 'beamkd' entry" in refused(student)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"{}",
        b"\x00" * 100,
        pickle.dumps(Bomb()),
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 15) + b'{"a": "nested"}',
    ],
)
def test_what_is_no_network_is_refused(other, tmp_path, refused):
    (tmp_path / "net.safetensors").write_bytes(other)
    refused(tmp_path / "net.safetensors")


def test_truncated_files_are_refused(student, refused):
    whole = student.read_bytes()
    for length in (7, 100, len(whole) // 2, len(whole) - 1):
        student.write_bytes(whole[:length])
        refused(student)


def test_no_file_a_folder_and_too_large_a_file_are_refused(tmp_path, refused):
    refused(tmp_path / "nowhere")
    refused(tmp_path)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    refused(tmp_path / "large")
