import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.signal import correlate

from beamkd.models import Conv1d, Gru, Linear, count_weights, encode_frames, layers
from beamkd.models.layers import UNROLLED_STEPS, Dropout, in_pieces


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("steps", [5, UNROLLED_STEPS + 5])
def test_gru_is_that_of_pytorch(pytorch_gru, steps):
    inputs = normal(2, steps, 3)
    params = {
        "input_kernel": normal(3, 12, seed=1),
        "input_bias": normal(12, seed=2),
        "state_kernel": normal(4, 12, seed=3),
        "state_bias": normal(12, seed=4),
    }
    found = jax.jit(Gru(4).apply)({"params": params}, inputs)
    transposed = params["input_kernel"].T, params["state_kernel"].T
    expected = pytorch_gru(inputs, *transposed, params["input_bias"], params["state_bias"])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "width", "stride"), [(11, 5, 2), (12, 5, 2), (9, 3, 1), (10, 4, 3), (13, 5, 3), (5, 5, 2)]
)
def test_conv1d_is_scipys_correlation_at_every_stride_th_place(length, width, stride):
    inputs, kernel, bias = normal(2, length, 3), normal(width, 3, 4, seed=1), normal(4, seed=2)
    # The kernel's rows run over the taps, and within a tap over the channels.
    params = {"Linear_0": {"kernel": kernel.reshape(width * 3, 4), "bias": bias}}
    found = jax.jit(Conv1d(4, width, stride).apply)({"params": params}, inputs)
    expected = np.array(
        [
            [
                bias[out] + sum(correlate(row[:, c], kernel[:, c, out], "valid") for c in range(3))[::stride]
                for out in range(4)
            ]
            for row in inputs.astype(np.float64)
        ]
    ).swapaxes(1, 2)
    assert found.shape == (2, (length - width) // stride + 1, 4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_linear_maps_the_last_axis():
    inputs, kernel, bias = normal(2, 3, 4), normal(4, 5, seed=1), normal(5, seed=2)
    found = Linear(5).apply({"params": {"kernel": kernel, "bias": bias}}, inputs)
    np.testing.assert_allclose(found, np.einsum("abi,io->abo", inputs, kernel) + bias, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "shape", "fan_in"),
    [(Linear(40), (2, 25), 25), (Conv1d(16), (2, 20, 8), 40), (Gru(16), (2, 1, 5), 16)],
    ids=["linear", "convolution", "gru"],
)
def test_initial_weights_fill_plus_minus_one_over_root_fan_in(module, shape, fan_in):
    init = jax.jit(module.init)
    params, other = (init(jax.random.key(seed), jnp.zeros(shape)) for seed in (0, 1))
    bound = fan_in**-0.5
    for leaf in jax.tree.leaves(params):
        assert np.abs(leaf).max() <= bound
        assert leaf.max() > 0.75 * bound
        assert leaf.min() < -0.75 * bound
        assert abs(leaf.mean()) < 0.4 * bound
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True):
        assert not np.array_equal(a, b)


@pytest.mark.parametrize("module", [Conv1d(2), Gru(2)])
def test_layers_over_sequences_refuse_a_single_one(module):
    with pytest.raises(AssertionError):
        module.init(jax.random.key(0), jnp.zeros((8, 3)))


def test_blank_frames_are_encoded_once_and_stand_behind_those_seen():
    frames = normal(2, 3, 4)
    given = []

    def encode(flat):
        given.append(flat.shape)
        return flat.sum(-1, keepdims=True) + jnp.array([7.0, 8.0])

    codes = encode_frames(encode, jnp.asarray(frames), 2)
    assert given == [(2 * 3, 4), (1, 4)]
    np.testing.assert_allclose(codes[:, :3], frames.sum(-1)[..., None] + [7, 8], rtol=1e-5)
    np.testing.assert_array_equal(codes[:, 3:], np.broadcast_to([7.0, 8.0], (2, 2, 2)))
    np.testing.assert_array_equal(encode_frames(encode, jnp.asarray(frames), 0), codes[:, :3])


@pytest.mark.parametrize(("count", "passed"), [(11, 11), (12, 4), (14, 5), (16, 4)])
def test_many_frames_are_encoded_in_pieces_to_the_same_codes_and_gradients(monkeypatch, count, passed):
    monkeypatch.setattr(layers, "PIECE", 4)
    given = []

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, frames):
            given.append(frames.shape)
            return Linear(2)(frames)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, frames):
            return in_pieces(Encoder(), frames)

    frames, weights = normal(count, 3), normal(count, 2, seed=1)
    params = jax.jit(Network().init)(jax.random.key(0), jnp.zeros((1, 3)))
    layer = params["params"]["Encoder_0"]["Linear_0"]
    given.clear()

    def weighted(params, frames):
        codes = Network().apply(params, frames)
        return (weights * codes).sum(), codes

    (_, codes), (gradient, back) = jax.jit(jax.value_and_grad(weighted, (0, 1), has_aux=True))(params, frames)
    assert set(given) == {(passed, 3)}
    np.testing.assert_allclose(codes, frames @ layer["kernel"] + layer["bias"], atol=1e-5)
    np.testing.assert_allclose(back, weights @ np.asarray(layer["kernel"]).T, atol=1e-5)
    found = gradient["params"]["Encoder_0"]["Linear_0"]
    np.testing.assert_allclose(found["kernel"], frames.T @ weights, atol=1e-5)
    np.testing.assert_allclose(found["bias"], weights.sum(0), atol=1e-5)


def test_weights_of_a_pytree_are_counted():
    assert count_weights({"a": jnp.zeros((2, 3)), "b": [jnp.zeros(4), jnp.zeros(())]}) == 11


def test_dropout_draws_as_flax_does_and_scales_what_is_left():
    values, rngs = jnp.ones((64, 5, 7)), {"dropout": jax.random.key(3)}
    found = Dropout(0.3).apply({}, values, True, rngs=rngs)
    expected = nn.Dropout(0.3, deterministic=False).apply({}, values, rngs=rngs)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {np.float32(0), np.float32(1 / 0.7)}
    np.testing.assert_array_equal(Dropout(0.3).apply({}, values, False), values)


def test_devices_that_share_a_batch_drop_what_one_would():
    values, rngs = jnp.arange(1.0, 51).reshape(10, 5), {"dropout": jax.random.key(3)}
    padded = jnp.pad(values, ((0, 2), (0, 0))).reshape(4, 3, 5)
    found = jax.vmap(lambda own: Dropout(0.5).apply({}, own, True, "devices", rngs=rngs), axis_name="devices")(padded)
    np.testing.assert_array_equal(found.reshape(12, 5)[:10], Dropout(0.5).apply({}, values, True, rngs=rngs))
