"""Losses of a student against its teacher, against SciPy's relative entropy and numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from beamkd.base import InputError
from beamkd.losses import combine, feature_matching, kl, mse, slot_weighted


def pairs(*shape):
    rng = np.random.default_rng(1)
    return rng.normal(0, 4, (2, *shape)).astype(np.float32)


def relative_entropy(student, teacher, temperature):
    p, q = (softmax(np.asarray(logits, np.float64) / temperature, axis=-1) for logits in (teacher, student))
    return temperature**2 * rel_entr(p, q).sum(-1)


def test_kl_at_temperature_two_by_hand():
    # Softened teacher (3/4, 1/4), student (1/2, 1/2); times 2².
    expected = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    np.testing.assert_allclose(kl(jnp.zeros(2), jnp.array([2 * np.log(3), 0.0])), expected, rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda loss: loss, jax.jit, jax.vmap])
def test_kl_at_the_default_temperature_is_scipys_relative_entropy(wrap):
    student, teacher = pairs(3, 2, 6)
    found = wrap(kl)(student, teacher)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found, relative_entropy(student, teacher, 2.0), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_at_other_temperatures_is_scipys_relative_entropy(temperature):
    student, teacher = pairs(3, 6)
    expected = relative_entropy(student, teacher, temperature)
    np.testing.assert_allclose(kl(student, teacher, temperature), expected, rtol=1e-5)


def test_kl_and_its_gradient_are_zero_where_student_and_teacher_agree_up_to_a_constant():
    logits, _ = pairs(3, 6)
    value, gradient = jax.value_and_grad(lambda student: kl(student, logits).sum())(logits + 2.5)
    np.testing.assert_allclose(value, 0, atol=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_of_kl_is_temperature_times_the_difference_of_the_softened_beams(temperature):
    student, teacher = pairs(3, 6)
    found = jax.grad(lambda student: kl(student, teacher, temperature).sum())(student)
    expected = temperature * (softmax(student / temperature, axis=-1) - softmax(teacher / temperature, axis=-1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [300.0, 1e4, 1e30])
def test_extreme_logits_give_finite_divergences_and_gradients(size):
    student = jnp.array([[size, -size, 0.0], [0.0, size, -size], [0.0, 0.0, 0.0]])
    teacher = jnp.array([[-size, size, 0.0], [0.0, size, -size], [size, 0.0, -size]])
    value = kl(student, teacher)
    np.testing.assert_allclose(value, [4 * size, 0, 4 * np.log(3)], rtol=1e-5)
    gradient, of_teacher = jax.jit(jax.grad(lambda *args: kl(*args).sum(), (0, 1)))(student, teacher)
    assert np.isfinite(of_teacher).all()
    np.testing.assert_allclose(gradient, 2 * (softmax(student, -1) - softmax(teacher, -1)), atol=1e-5)


def test_a_beam_that_the_teacher_rules_out_adds_nothing():
    student, teacher = jnp.array([0.3, 0.0, 0.0]), jnp.array([-jnp.inf, 2 * np.log(3), 0.0])
    value, gradient = jax.value_and_grad(kl)(student, teacher)
    np.testing.assert_allclose(value, relative_entropy(student, teacher, 2.0), rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * (softmax(student / 2) - softmax(teacher / 2)), atol=1e-6)


@pytest.mark.parametrize("loss", [mse, feature_matching])
def test_mean_squared_errors_by_hand(loss):
    student, teacher = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]]), jnp.array([[1.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    np.testing.assert_allclose(loss(student, teacher), [13 / 3, 15.0], rtol=1e-6)
    gradient = jax.grad(lambda student: jax.jit(loss)(student, teacher).sum())(student)
    np.testing.assert_allclose(gradient, 2 / 3 * (student - teacher), rtol=1e-6)


@pytest.mark.parametrize("loss", [kl, mse, feature_matching])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [(jnp.zeros((3, 4)), jnp.zeros(4)), (jnp.zeros((3, 4)), jnp.zeros((3, 5))), (jnp.zeros(4, int), jnp.zeros(4, int))],
    ids=["would broadcast", "other beams", "integers"],
)
def test_student_and_teacher_that_do_not_fit_are_refused(loss, student, teacher):
    with pytest.raises(AssertionError):
        loss(student, teacher)


def test_slots_are_weighted_by_hand():
    student = jnp.array([[9.0, 9.0], [1.0, 1.0], [2.0, 2.0]])  # squared errors 81, 1 and 4
    found = slot_weighted(mse, (1.0, 3.0))(student, jnp.zeros((3, 2)))
    np.testing.assert_allclose(found, [0.5 * 1, 1.5 * 4], rtol=1e-6)
    np.testing.assert_allclose(found.mean(), (1 * 1 + 3 * 4) / 4, rtol=1e-6)


@pytest.mark.parametrize("loss", [kl, mse])
def test_slot_weights_look_at_the_last_steps_of_student_and_teacher_alone(loss):
    weights = (2, 0, 0.5, 1)
    (student, _), (teacher, _) = pairs(3, 6, 5), pairs(3, 9, 5)
    found = jax.jit(slot_weighted(loss, weights))(student, teacher)
    assert found.shape == (3, 4)
    for row in range(3):
        for slot in range(4):
            expected = weights[slot] / 3.5 * 4 * loss(student[row, 2 + slot], teacher[row, 5 + slot])
            np.testing.assert_allclose(found[row, slot], expected, rtol=1e-5)


def test_equal_slot_weights_of_any_size_change_nothing():
    student, teacher = pairs(3, 4, 5)
    np.testing.assert_allclose(slot_weighted(kl, (0.1,) * 4)(student, teacher), kl(student, teacher), rtol=1e-6)


def test_a_step_of_no_weight_has_no_gradient():
    student, teacher = pairs(5, 4)
    gradient = jax.grad(lambda student: slot_weighted(kl, (0.0, 1.0))(student, teacher).sum())(student)
    np.testing.assert_array_equal(gradient[:4], 0)
    assert gradient[4].any()


def test_a_slot_weighted_loss_is_a_term_like_any():
    student, teacher = pairs(3, 4, 5)
    total, _ = combine(slots=(2.0, slot_weighted(kl, (1.0,))))(student_logits=student, teacher_logits=teacher)
    np.testing.assert_allclose(total[:, 0], 2 * kl(student[:, -1], teacher[:, -1]), rtol=1e-6)


@pytest.mark.parametrize(
    "weights", [(), (0.0, 0.0), (1.0, -0.5), (1.0, float("inf")), (float("nan"), 1.0), (1.0, float("nan"))]
)
def test_slot_weights_that_are_none_are_refused(weights):
    with pytest.raises(InputError, match="^weights: expected"):
        slot_weighted(kl, weights)


def test_fewer_steps_than_slot_weights_are_refused():
    few, enough = jnp.zeros((3, 1, 5)), jnp.zeros((3, 4, 5))
    for student, teacher in [(few, enough), (enough, few), (few, few)]:
        with pytest.raises(AssertionError):
            slot_weighted(mse, (1.0, 1.0))(student, teacher)
