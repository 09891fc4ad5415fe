"""Losses of a student against its teacher, against SciPy's relative entropy and numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from beamkd.losses import feature_matching, kl, mse


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
