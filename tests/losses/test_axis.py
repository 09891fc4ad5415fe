"""A batch that devices share has the loss of the whole batch, and its gradient is the mean of theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.losses import activation, combine, cross_entropy, entropy, layer_statistics, masked_mean, metadata
from beamkd.training import mean_over_labels

ROWS, DEVICES, EACH = 10, 4, 3  # the last two rows of the last device fill the batch
RNG = np.random.default_rng(0)
FEATURES = jnp.asarray(RNG.normal(size=(ROWS, 5)), jnp.float32)
LOGITS = jnp.asarray(RNG.normal(size=(ROWS, 3, 6)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(-1, 6, (ROWS, 2)))
MEAN, VARIANCE = jnp.linspace(-1, 1, 5), jnp.linspace(0.2, 2, 5)


def of_features(loss):
    return lambda values, **shared: loss(values, MEAN, VARIANCE, **shared)


LOSSES = {
    "metadata": (of_features(metadata), FEATURES),
    "layers": (of_features(layer_statistics), FEATURES),
    "activation": (activation, FEATURES),
    "entropy": (entropy, LOGITS),
    "mean": (lambda values, mask=None, axis_name=None: masked_mean(values**2, mask, axis_name=axis_name), FEATURES),
}


def shared(leaf):
    """[devices, rows of each, ...], with what would spoil a loss for filling."""
    filling = [(0, DEVICES * EACH - len(leaf))] + [(0, 0)] * (leaf.ndim - 1)
    return jnp.pad(leaf, filling, constant_values=7).reshape(DEVICES, EACH, *leaf.shape[1:])


MASK = jnp.arange(DEVICES * EACH).reshape(DEVICES, EACH) < ROWS


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_of_shares_are_those_of_the_batch(name):
    loss, values = LOSSES[name]

    def on_device(values, mask):
        found, gradient = jax.value_and_grad(loss)(values, mask=mask, axis_name="devices")
        return found, gradient / jax.lax.axis_size("devices")  # each device has that of the sum of all their losses

    found, gradient = jax.jit(jax.vmap(on_device, axis_name="devices"))(shared(values), MASK)
    expected, whole = jax.value_and_grad(loss)(values)
    np.testing.assert_allclose(found, [expected] * DEVICES, rtol=1e-5)
    np.testing.assert_allclose(gradient.reshape(-1, *values.shape[1:])[:ROWS], whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gradient.reshape(-1, *values.shape[1:])[ROWS:], 0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_leaves_out_rows(name):
    loss, values = LOSSES[name]
    mask = jnp.arange(ROWS) % 3 > 0
    np.testing.assert_allclose(loss(values, mask=mask), loss(values[mask]), rtol=1e-5)


def test_labels_count_wherever_they_are():
    loss = mean_over_labels(cross_entropy)
    labels = shared(LABELS).at[-1, -2:].set(-1)
    found = jax.vmap(lambda *args: loss(*args, axis_name="devices"), axis_name="devices")(shared(LOGITS), labels)
    np.testing.assert_allclose(found, [loss(LOGITS, LABELS)] * DEVICES, rtol=1e-5)


def test_a_term_that_knows_no_axis_is_refused_where_devices_share_a_batch():
    total = combine(known=(1.0, activation), own=(1.0, lambda features: features.mean()))
    assert total(features=FEATURES)[0].shape == ()
    with pytest.raises(TypeError, match="own to take axis_name"):
        jax.vmap(lambda features: total(features=features, axis_name="devices")[0], axis_name="devices")(FEATURES[None])
