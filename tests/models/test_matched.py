"""Students whose layers are mapped to the shapes of their teachers'."""

import functools

import jax
import numpy as np
import pytest

from beamkd.base import Model
from beamkd.distill import matched, unmatched
from beamkd.models import GruStudent, GruTeacher, Matched

RAYS, FUTURE, BEAMS, SHORT, LONG = 3, 2, 6, 2, 4
KEYS = jax.random.split(jax.random.key(0), 2)
STUDENT = GruStudent(embed=4, hidden=5, beams=BEAMS)
TEACHER = GruTeacher(embed=6, hidden=7, beams=BEAMS)
SCANS = np.random.default_rng(0).random((3, SHORT, RAYS)).astype(np.float32)


def model(module, frames):
    shapes, rng = jax.eval_shape(module.init, KEYS[0], SCANS), np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, (len(KEYS), *leaf.shape)).astype(np.float32), shapes)
    return Model(module, params, {"lidar": (frames, RAYS)})


@pytest.fixture(scope="module")
def student():
    return model(STUDENT, SHORT)


@pytest.fixture(scope="module")
def pair(student):
    """The student, and what it is while it learns."""
    return student, matched(KEYS, student, model(TEACHER, LONG), ["codes", "states"], FUTURE)


def outputs(model, member):
    """Of one member of a model."""
    params = jax.tree.map(lambda leaf: leaf[member], model.params)
    return jax.jit(lambda params: model.module.apply(params, SCANS, future=FUTURE))(params)


def test_layers_are_those_of_the_student_through_linear_maps_over_steps_and_features(pair):
    own, found = (outputs(each, 1) for each in pair)
    maps = jax.tree.map(lambda leaf: np.asarray(leaf[1], np.float64), pair[1].params["params"])
    assert found.layers["codes"].shape == (3, LONG, 6) and found.layers["states"].shape == (3, LONG + FUTURE, 7)
    for layer in ("codes", "states"):
        steps, size = maps[f"{layer}_steps"], maps[f"{layer}_size"]
        longer = np.einsum("bse,st->bte", own.layers[layer], steps["kernel"]) + steps["bias"][:, None]
        np.testing.assert_allclose(found.layers[layer], longer @ size["kernel"] + size["bias"], atol=1e-5)


def test_a_student_says_the_same_and_has_the_same_weights_in_its_maps_and_out_of_them(pair):
    student, learner = pair
    own, found = (outputs(each, 0) for each in pair)
    np.testing.assert_allclose(found.logits, own.logits, atol=1e-6)
    np.testing.assert_allclose(found.features, own.features, atol=1e-6)
    assert learner.inputs == student.inputs
    back = unmatched(learner)
    assert back.module == student.module and back.inputs == student.inputs
    jax.tree.map(np.testing.assert_array_equal, back.params, student.params)


def test_each_member_has_maps_of_its_own(pair):
    for name, maps in pair[1].params["params"].items():
        if name != "network":
            assert np.abs(maps["kernel"][0] - maps["kernel"][1]).max() > 1e-3, name


def test_layers_of_the_same_shape_are_left_alone(student):
    alike = model(TEACHER.clone(embed=4), SHORT)
    own = outputs(student, 0)
    found = matched(KEYS, student, alike, ["codes", "states"], FUTURE)
    assert found.params["params"].keys() == {"network", "states_size"}
    np.testing.assert_allclose(outputs(found, 0).layers["codes"], own.layers["codes"], atol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "maps"),
    [
        ((("codes", (SHORT, 4)), ("states", (SHORT + FUTURE, 5))), set()),
        ((("codes", (LONG, 4)),), {"codes_steps"}),
        ((("states", (LONG + FUTURE, 6)),), {"states_steps", "states_size"}),
    ],
)
def test_there_are_maps_only_where_shapes_differ(shapes, maps):
    init = functools.partial(Matched(STUDENT, shapes).init_with_output, future=FUTURE)
    output, params = jax.eval_shape(init, jax.random.key(0), SCANS)
    assert params["params"].keys() == {"network"} | maps
    for name, shape in shapes:
        assert output.layers[name].shape == (3, *shape)
