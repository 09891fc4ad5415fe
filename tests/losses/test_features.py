"""Losses of layers against NumPy, by the names that they take, and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.losses import combine, match_codes, match_states

ROWS, DEVICES, EACH = 10, 4, 3  # the last two rows of the last device fill the batch
RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(0, 2, (2, ROWS, 3, 5)).astype(np.float32)
EVERY = np.ones(ROWS, bool)

each = pytest.mark.parametrize(("layer", "loss"), [("codes", match_codes), ("states", match_states)])


def of(layer, loss, student, teacher, mask, **shared):
    return loss(**{layer: student, f"teacher_{layer}": teacher, "mask": mask}, **shared)


@each
def test_by_hand(layer, loss):
    student, teacher = jnp.array([[[1.0, 2.0]], [[0.0, 5.0]]]), jnp.array([[[3.0, 2.0]], [[0.0, 1.0]]])
    assert of(layer, loss, student, teacher, jnp.ones(2, bool)) == (4 / 2 + 16 / 2) / 2
    assert of(layer, loss, student, teacher, jnp.array([True, False])) == 4 / 2


@each
def test_losses_of_a_batch_are_numpys_over_the_rows_of_its_mask(layer, loss):
    mask = np.arange(ROWS) % 3 > 0
    found, gradient = jax.value_and_grad(lambda student: of(layer, loss, student, TEACHER, mask))(STUDENT)
    gap = np.float64(STUDENT - TEACHER) * mask[:, None, None]
    count = mask.sum() * 3 * 5
    np.testing.assert_allclose(found, np.square(gap).sum() / count, rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * gap / count, rtol=1e-4, atol=1e-8)


@each
def test_loss_and_gradient_of_shares_are_those_of_the_batch(layer, loss):
    def shared(leaf):
        filling = ((0, DEVICES * EACH - ROWS), (0, 0), (0, 0))
        return jnp.pad(leaf, filling, constant_values=7).reshape(DEVICES, EACH, 3, 5)

    def on_device(student, teacher, mask):
        def own(student):
            return of(layer, loss, student, 2 * teacher, mask, axis_name="devices")

        found, gradient = jax.value_and_grad(own)(student)
        return found, gradient / jax.lax.axis_size("devices")  # each device has that of the sum of all their losses

    mask = jnp.arange(DEVICES * EACH).reshape(DEVICES, EACH) < ROWS
    found, gradient = jax.jit(jax.vmap(on_device, axis_name="devices"))(shared(STUDENT), shared(TEACHER), mask)
    expected, whole = jax.value_and_grad(lambda student: of(layer, loss, student, 2 * TEACHER, EVERY))(STUDENT)
    np.testing.assert_allclose(found, [expected] * DEVICES, rtol=1e-5)
    np.testing.assert_allclose(gradient.reshape(-1, 3, 5)[:ROWS], whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gradient.reshape(-1, 3, 5)[ROWS:], 0)


def test_each_takes_its_own_layer_of_both_networks():
    total = combine(codes=(2.0, match_codes), states=(3.0, match_states))
    layers = {"codes": STUDENT, "teacher_codes": TEACHER, "states": STUDENT[:, :1], "teacher_states": TEACHER[:, 1:2]}
    found, parts = total.of(**layers, mask=EVERY, logits=None)
    expected = [np.square(STUDENT - TEACHER).mean(), np.square(STUDENT[:, 0] - TEACHER[:, 1]).mean()]
    np.testing.assert_allclose([parts["codes"], parts["states"]], expected, rtol=1e-5)
    np.testing.assert_allclose(found, 2 * expected[0] + 3 * expected[1], rtol=1e-5)


@each
def test_layers_of_unlike_shapes_are_refused(layer, loss):
    for teacher in (TEACHER[:, :1], TEACHER[..., :1]):
        with pytest.raises(AssertionError):
            of(layer, loss, STUDENT, teacher, EVERY)
