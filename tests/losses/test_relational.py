"""Relations between a batch's examples: by hand, against loops in NumPy in float64, and over devices."""

import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.losses import angle_relations, combine, cosine_relations, distance_relations
from tests.xla import EIGHT_DEVICES

ROWS, DEVICES, EACH = 10, 4, 3  # the last two rows of the last device fill the batch
RNG = np.random.default_rng(5)
STUDENT = RNG.normal(0, 2, (ROWS, 3)).astype(np.float32)
TEACHER = RNG.normal(1, 3, (ROWS, 5)).astype(np.float32)


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def distances(rows):
    found = np.array([np.linalg.norm(a - b) for a, b in itertools.permutations(rows, 2)])
    return found / found.mean()


def cosines(rows):
    return np.array([1 - cosine(a, b) for a, b in itertools.permutations(rows, 2)])


def angles(rows):
    return np.array([cosine(i - j, k - j) for i, j, k in itertools.permutations(rows, 3)])


RELATIONS = {distance_relations: distances, cosine_relations: cosines, angle_relations: angles}
every_loss = pytest.mark.parametrize("loss", RELATIONS)


@functools.cache  # compiled as a whole, which takes less time than operation by operation
def graded(loss, argnums=0):
    return jax.jit(jax.value_and_grad(loss, argnums))


def reference(loss, student, teacher):
    student, teacher = (RELATIONS[loss](np.asarray(rows, np.float64)) for rows in (student, teacher))
    return np.mean((student - teacher) ** 2)


@every_loss
def test_losses_and_gradients_agree_with_numpy(slope, loss):
    found, gradient = graded(loss)(STUDENT, TEACHER)
    assert found.shape == ()
    np.testing.assert_allclose(found, reference(loss, STUDENT, TEACHER), rtol=1e-5)
    expected = slope(lambda student: reference(loss, student, TEACHER), STUDENT)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_distances_by_hand_are_over_their_mean():
    # Distances 3, 4, 5 over 4, and 1, 1, 2 over 4/3.
    student, teacher = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), jnp.array([[0.0], [-1.0], [1.0]])
    expected = ((3 / 4 - 3 / 4) ** 2 + (1 - 3 / 4) ** 2 + (5 / 4 - 3 / 2) ** 2) / 3
    np.testing.assert_allclose(distance_relations(student, teacher), expected, rtol=1e-6)


def test_cosines_by_hand():
    # Cosines 0, 1/√2, 1/√2, and −1, 1, −1.
    student, teacher = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]), jnp.array([[1.0], [-1.0], [5.0]])
    expected = (1 + (1 - np.sqrt(0.5)) ** 2 + (1 + np.sqrt(0.5)) ** 2) / 3
    np.testing.assert_allclose(cosine_relations(student, teacher), expected, rtol=1e-6)


def test_angles_by_hand():
    # Cosines 0, 3/5, 4/5 at the corners, and −1, 1, 1 on the line.
    student, teacher = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), jnp.array([[0.0], [-1.0], [1.0]])
    expected = (1 + (2 / 5) ** 2 + (1 / 5) ** 2) / 3
    np.testing.assert_allclose(angle_relations(student, teacher), expected, rtol=1e-6)


@every_loss
def test_relations_stay_under_rotation_and_scaling_of_either_and_in_any_order_of_rows(loss):
    turn, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    turned = jnp.asarray(0.1 * np.pad(STUDENT, ((0, 0), (0, 2))) @ turn, jnp.float32)
    np.testing.assert_allclose(loss(turned, 7 * TEACHER), loss(STUDENT, TEACHER), rtol=1e-4)
    np.testing.assert_allclose(loss(turned, STUDENT), 0, atol=1e-9)
    order = RNG.permutation(ROWS)
    np.testing.assert_allclose(loss(STUDENT[order], TEACHER[order]), loss(STUDENT, TEACHER), rtol=1e-5)


@every_loss
def test_distances_and_angles_stay_under_translation_and_cosines_do_not(loss):
    moved = loss(STUDENT + np.array([1, -2, 3], np.float32), TEACHER)
    assert np.isclose(moved, loss(STUDENT, TEACHER), rtol=1e-4) == (loss is not cosine_relations)


@every_loss
def test_cosines_alone_stay_if_each_row_is_scaled_by_itself(loss):
    scaled = loss(STUDENT * np.linspace(0.1, 3, ROWS, dtype=np.float32)[:, None], TEACHER)
    assert np.isclose(scaled, loss(STUDENT, TEACHER), rtol=1e-4) == (loss is cosine_relations)


@every_loss
@pytest.mark.parametrize("filling", [7, np.inf, np.nan])
def test_a_mask_leaves_out_rows_whatever_they_hold(loss, filling):
    mask = np.arange(ROWS) % 3 > 0
    student, teacher = (jnp.asarray(np.where(mask[:, None], rows, filling)) for rows in (STUDENT, TEACHER))
    found, gradient = graded(loss)(student, teacher, mask)
    expected, whole = graded(loss)(STUDENT[mask], TEACHER[mask])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[mask], whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gradient[~mask], 0)


@every_loss
def test_too_few_rows_have_no_relations(loss):
    for count in range(3 if loss is angle_relations else 2):
        found, gradient = graded(loss)(STUDENT, TEACHER, jnp.arange(ROWS) < count)
        np.testing.assert_array_equal(found, 0)
        np.testing.assert_array_equal(gradient, 0)


@every_loss
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-18, 1e15])
@pytest.mark.parametrize("alike", [2, ROWS])
def test_rows_that_coincide_or_are_zero_give_finite_losses_and_gradients(loss, size, alike):
    student = jnp.asarray(STUDENT).at[:alike].set(size)
    for given in [(student, TEACHER), (student, jnp.zeros_like(student)), (TEACHER, student)]:
        value, gradients = graded(loss, (0, 1))(*given)
        assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in gradients)


def test_rows_that_coincide_count_with_distance_zero_and_rows_of_zeros_with_cosine_zero():
    student, teacher = jnp.array([[1.0], [1.0], [4.0]]), jnp.array([[0.0], [1.0], [2.0]])
    expected = ((0 - 3 / 4) ** 2 + (3 / 2 - 3 / 2) ** 2 + (3 / 2 - 3 / 4) ** 2) / 3
    np.testing.assert_allclose(distance_relations(student, teacher), expected, rtol=1e-6)
    np.testing.assert_allclose(cosine_relations(student, teacher), (1 + 0 + 1) / 3, rtol=1e-6)
    np.testing.assert_allclose(angle_relations(student, teacher), ((0 + 1) ** 2 + (0 - 1) ** 2 + 0) / 3, rtol=1e-6)


def shared(leaf):
    """[devices, rows of each, ...], with what would spoil a loss for filling."""
    filling = [(0, DEVICES * EACH - len(leaf))] + [(0, 0)] * (leaf.ndim - 1)
    return np.pad(leaf, filling, constant_values=7).reshape(DEVICES, EACH, *leaf.shape[1:])


MASKS = {
    "all": np.ones(ROWS, bool),
    "some": np.arange(ROWS) % 3 > 0,
    "none of a device": np.arange(ROWS) >= EACH,
}


def assert_shares_are_as_the_batch(loss, mask, form):
    """Values and gradients, with `form` one of jax.pmap and jax.vmap."""

    def on_device(student, teacher, mask):
        found, gradient = jax.value_and_grad(loss)(student, teacher, mask, axis_name="devices")
        return found, gradient / jax.lax.axis_size("devices")  # each device has that of the sum of all their losses

    padded = shared(mask).astype(bool) & (np.arange(DEVICES * EACH).reshape(DEVICES, EACH) < ROWS)
    mapped = form(on_device, axis_name="devices")
    mapped = jax.jit(mapped) if form is jax.vmap else mapped
    found, gradient = mapped(shared(STUDENT), shared(TEACHER), padded)
    expected, whole = graded(loss)(STUDENT[mask], TEACHER[mask])
    gradient = np.asarray(gradient).reshape(-1, STUDENT.shape[1])
    np.testing.assert_allclose(found, [expected] * DEVICES, rtol=1e-5)
    np.testing.assert_allclose(gradient[padded.ravel()], whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gradient[~padded.ravel()], 0)


@every_loss
@pytest.mark.parametrize("mask", MASKS)
def test_losses_and_gradients_of_shares_are_those_of_the_batch(loss, mask):
    assert_shares_are_as_the_batch(loss, MASKS[mask], jax.vmap)


ON_DEVICES = """
import jax
from tests.losses.test_relational import MASKS, RELATIONS, assert_shares_are_as_the_batch
for loss in RELATIONS:
    assert_shares_are_as_the_batch(loss, MASKS["some"], jax.pmap)
"""


def test_losses_and_gradients_of_devices_are_those_of_the_batch():
    environment = {**os.environ, "XLA_FLAGS": EIGHT_DEVICES, "JAX_PLATFORMS": "cpu"}
    options = {"cwd": Path(__file__).parents[2], "env": environment, "capture_output": True, "text": True}
    result = subprocess.run([sys.executable, "-c", ON_DEVICES], **options)
    assert result.returncode == 0, result.stderr


@every_loss
def test_without_a_mask_all_rows_of_all_devices_count(loss):
    student, teacher = (rows[:9].reshape(3, 3, -1) for rows in (STUDENT, TEACHER))
    found = jax.jit(jax.vmap(lambda *rows: loss(*rows, axis_name="devices"), axis_name="devices"))(student, teacher)
    np.testing.assert_allclose(found, [loss(STUDENT[:9], TEACHER[:9])] * 3, rtol=1e-5)


def test_relations_are_terms_of_a_sum_that_devices_share():
    total = combine(distance=(1.0, distance_relations), cosine=(2.0, cosine_relations))

    def on_device(features, teacher_features):
        return total.of("devices", features=features, teacher_features=teacher_features, logits=None)[0]

    found = jax.jit(jax.vmap(on_device, axis_name="devices"))(*(rows.reshape(2, 5, -1) for rows in (STUDENT, TEACHER)))
    expected = distance_relations(STUDENT, TEACHER) + 2 * cosine_relations(STUDENT, TEACHER)
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-5)


@every_loss
@pytest.mark.parametrize(
    ("shapes", "mask"),
    [([(4, 3), (5, 3)], None), ([(4, 2, 3), (4, 3)], None), ([(4, 3), (4, 3)], (3,)), ([(4, 3), (4, 3)], (4, 3))],
    ids=["other batch", "steps", "other mask", "mask of features"],
)
def test_shapes_that_do_not_fit_are_refused(loss, shapes, mask):
    with pytest.raises(AssertionError):
        loss(*map(jnp.zeros, shapes), mask if mask is None else jnp.ones(mask, bool))
