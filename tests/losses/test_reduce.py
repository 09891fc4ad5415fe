import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.losses import masked_mean

VALUES = jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 60.0]])


def test_mean_is_over_what_the_mask_leaves():
    mask = jnp.array([[True, False, True], [False, False, True]])
    np.testing.assert_allclose(masked_mean(VALUES, mask), 64 / 3, rtol=1e-6)
    np.testing.assert_allclose(masked_mean(VALUES, mask, axis=0), [1, 0, 63 / 2], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(masked_mean, static_argnums=2)(VALUES, mask, 1), [2, 60], rtol=1e-6)


def test_a_mask_of_fewer_axes_covers_the_first_ones():
    np.testing.assert_allclose(masked_mean(VALUES, jnp.array([False, True])), 30, rtol=1e-6)
    np.testing.assert_allclose(masked_mean(VALUES, jnp.array([True, True]), axis=0), [5.5, 11, 31.5], rtol=1e-6)


@pytest.mark.parametrize("axis", [None, 0])
def test_an_empty_mask_gives_zero_and_no_gradient(axis):
    empty = jnp.zeros((2, 3), bool)
    np.testing.assert_array_equal(masked_mean(VALUES, empty, axis), 0)
    np.testing.assert_array_equal(jax.grad(lambda values: masked_mean(values, empty, axis).sum())(VALUES), 0)


@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
def test_what_is_outside_the_mask_poisons_neither_mean_nor_gradient(bad):
    value, gradient = jax.value_and_grad(masked_mean)(jnp.array([1.0, bad, 3.0]), jnp.array([True, False, True]))
    assert value == 2
    np.testing.assert_array_equal(gradient, [0.5, 0, 0.5])


def test_a_mask_of_another_batch_is_refused():
    with pytest.raises((ValueError, AssertionError, TypeError)):
        masked_mean(VALUES, jnp.ones(3, bool))
