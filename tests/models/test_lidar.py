import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

from beamkd.base import Batch
from beamkd.models import CnnGruTeacher, GruStudent, GruTeacher, PatchStudent, count_weights, layers, network

SMALL = {
    "gru": GruTeacher(embed=4, hidden=5, dropout=0.5, beams=6),
    "cnn": CnnGruTeacher(channels=(2, 3), embed=4, hidden=5, dropout=0.5, beams=6),
    "patches": PatchStudent(embed=4, hidden=5, dropout=0.5, beams=6, rays=3, channels=2),
}
RAYS = 17


@pytest.fixture(params=SMALL, scope="module")
def module(request):
    return SMALL[request.param]


@pytest.fixture(scope="module")
def params(module):
    return jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 1, RAYS)))


@pytest.fixture(scope="module")
def run(module):
    return jax.jit(module.apply)


def scans():
    rng = np.random.default_rng(0)
    return (rng.random((3, 3, RAYS)) * (rng.random((3, 3, RAYS)) < 0.5)).astype(np.float32)


@pytest.mark.parametrize(
    ("module", "weights", "features"),
    [
        (CnnGruTeacher(), 189_952, 128),
        (GruStudent(), 8_096, 24),
        (GruTeacher(embed=64, hidden=64), 43_008, 64),
        (PatchStudent(), 8_138, 24),
    ],
    ids=["CNN-GRU teacher", "student", "published GRU teacher", "our student"],
)
def test_networks_have_the_published_numbers_of_weights_and_shapes(module, weights, features):
    output, params = jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.zeros((2, 11, 216)))
    assert count_weights(params) == weights
    assert output.logits.shape == (2, 11, 64)
    assert output.features.shape == (2, features)
    assert output.logits.dtype == output.features.dtype == jnp.float32


def test_future_slots_are_zero_frames_in_logits_features_and_gradients(module, params):
    seen = scans()
    padded = np.concatenate([seen, np.zeros((3, 2, RAYS), np.float32)], axis=1)

    def objective(params, scans, future):
        output = module.apply(params, scans, future=future)
        return jnp.sin(output.logits).sum() + jnp.square(output.features).sum(), output

    short = jax.jit(jax.value_and_grad(objective, (0, 1), has_aux=True), static_argnums=2)(params, seen, 2)
    long = jax.jit(jax.value_and_grad(objective, (0, 1), has_aux=True), static_argnums=2)(params, padded, 0)
    (_, output), (weights, inputs) = short
    (_, expected), (expected_weights, expected_inputs) = long
    assert output.logits.shape == (3, 5, 6)
    np.testing.assert_allclose(output.logits, expected.logits, atol=1e-6)
    np.testing.assert_allclose(output.features, expected.features, atol=1e-6)
    np.testing.assert_allclose(inputs, expected_inputs[:, :3], atol=1e-5)
    assert np.abs(inputs).max() > 1e-3
    for found, wanted in zip(jax.tree.leaves(weights), jax.tree.leaves(expected_weights), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("piece", [1, 2])
def test_frames_in_pieces_have_the_gradients_of_all_at_once_also_for_several_members(monkeypatch, piece):
    module, given = SMALL["cnn"], scans()
    stacked = jax.jit(jax.vmap(module.init, (0, None)))(jax.random.split(jax.random.key(0), 2), given)

    def gradients():
        def objective(params, scans):
            return jnp.sin(module.apply(params, scans, future=2).logits).sum()

        return jax.jit(jax.vmap(jax.grad(objective, (0, 1)), (0, None)))(stacked, given)

    expected = gradients()
    monkeypatch.setattr(layers, "PIECE", piece)
    for found, wanted in zip(jax.tree.leaves(gradients()), jax.tree.leaves(expected), strict=True):
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_features_are_the_last_state_which_the_read_out_maps_to_the_last_logits(run, params):
    output = run(params, scans())
    read_out = params["params"]["_Tail_0"]["Linear_0"]
    expected = output.features @ read_out["kernel"] + read_out["bias"]
    np.testing.assert_allclose(output.logits[:, -1], expected, atol=1e-5)
    assert np.abs(output.logits[:, -2] - expected).max() > 1e-3


def test_logits_do_not_depend_on_later_frames_nor_on_other_examples(run, params):
    given = scans()
    changed = given.copy()
    changed[0, 2:] += 1.0
    before, after = run(params, given).logits, run(params, changed).logits
    np.testing.assert_allclose(after[0, :2], before[0, :2], atol=1e-6)
    np.testing.assert_allclose(after[1:], before[1:], atol=1e-6)
    assert (np.abs(after[0, 2:] - before[0, 2:]).max(-1) > 1e-3).all()


@pytest.mark.parametrize("piece", [9, 2], ids=["whole", "in pieces"])
def test_the_network_is_its_layers_one_after_another(pytorch_gru, monkeypatch, piece):
    monkeypatch.setattr(layers, "PIECE", piece)
    module = SMALL["cnn"]
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 1, RAYS)))
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    given = scans()
    codes = []
    for frame in given.reshape(9, RAYS).astype(np.float64):
        maps = frame[:, None]
        for name in ("Conv1d_0", "Conv1d_1"):
            kernel, bias = weights[name]["Linear_0"]["kernel"], weights[name]["Linear_0"]["bias"]
            places = range(0, len(maps) - 4, 2)
            maps = np.maximum(np.array([maps[p : p + 5].reshape(-1) @ kernel + bias for p in places]), 0)
        codes.append(maps.reshape(-1) @ weights["Linear_0"]["kernel"] + weights["Linear_0"]["bias"])
    gru, read_out = weights["_Tail_0"]["Gru_0"], weights["_Tail_0"]["Linear_0"]
    kernels = gru["input_kernel"].T, gru["state_kernel"].T
    states = pytorch_gru(np.array(codes).reshape(3, 3, 4), *kernels, gru["input_bias"], gru["state_bias"])
    found = jax.jit(lambda: module.apply(params, given))()
    np.testing.assert_allclose(found.features, states[:, -1], atol=1e-5)
    np.testing.assert_allclose(found.logits, states @ read_out["kernel"] + read_out["bias"], atol=1e-5)


def test_dropout_acts_in_training_alone_and_follows_its_key(module, run, params):
    given = scans()
    sure = run(params, given).logits

    @jax.jit
    def train(key):
        return module.apply(params, given, train=True, rngs={"dropout": key}).logits

    one, again, other = train(jax.random.key(1)), train(jax.random.key(1)), train(jax.random.key(2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - sure).max() > 1e-3
    assert np.abs(one - other).max() > 1e-3


def test_training_with_dropout_needs_a_key(module, params):
    with pytest.raises(InvalidRngError):
        module.apply(params, scans(), train=True)


def test_vmap_over_weights_equals_each_network_alone(run, params):
    members = [jax.tree.map(lambda leaf, scale=scale: scale * leaf, params) for scale in (1, -1, 2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
    together = jax.jit(jax.vmap(run, (0, None)))(stacked, scans())
    for member, own in enumerate(members):
        expected = run(own, scans())
        np.testing.assert_allclose(together.logits[member], expected.logits, atol=1e-5)
        np.testing.assert_allclose(together.features[member], expected.features, atol=1e-5)
    assert np.abs(together.logits[0] - together.logits[1]).max() > 1e-3


def test_a_single_sequence_is_refused(module):
    with pytest.raises(AssertionError):
        module.init(jax.random.key(0), jnp.zeros((4, RAYS)))


def test_network_applies_dropout_with_a_key_only_and_appends_the_future():
    module = SMALL["gru"]
    seen = jnp.asarray(scans()[:, :2])
    params = jax.jit(module.init)(jax.random.key(0), seen)
    batch = Batch({"scan": 2 * seen}, jnp.zeros((3, 2), int), jnp.zeros((3, 2, 6)), jnp.ones(3, bool))
    forward = jax.jit(network(module, lambda batch: batch.sensors["scan"] / 2))
    padded = jnp.concatenate([seen, jnp.zeros((3, 1, RAYS))], axis=1)
    sure = jax.jit(module.apply)(params, padded).logits
    np.testing.assert_allclose(forward(params, batch, None).logits, sure, atol=1e-6)
    assert np.abs(forward(params, batch, jax.random.key(0)).logits - sure).max() > 1e-3


@pytest.mark.parametrize("future", [0, 3, 6])
def test_network_predicts_as_many_slots_ahead_as_there_are_labels_for(future):
    labels, power = jnp.zeros((2, future + 1), int), jnp.zeros((2, future + 1, 6))
    batch = Batch({"scan": jnp.zeros((2, 8, RAYS))}, labels, power, jnp.ones(2, bool))
    forward = network(SMALL["gru"], lambda batch: batch.sensors["scan"])
    params = jax.eval_shape(SMALL["gru"].init, jax.random.key(0), jnp.zeros((1, 1, RAYS)))
    assert jax.eval_shape(forward, params, batch).logits.shape == (2, 8 + future, 6)


def test_only_the_predicted_slots_can_be_read_out(module, params):
    batch = Batch({"scans": scans()}, labels=jnp.zeros((3, 3), int), power=None, mask=None)
    whole, predicted = (
        network(module, lambda batch: batch.sensors["scans"], predicted_only=only)(params, batch)
        for only in (False, True)
    )
    assert predicted.logits.shape == (3, 3, 6)
    np.testing.assert_allclose(predicted.logits, whole.logits[:, -3:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(predicted.features, whole.features)


def test_patches_are_coded_alike_and_rectified():
    module, seen = PatchStudent(embed=4, hidden=5, dropout=0.0, beams=6, rays=5, channels=3), scans()
    params = module.init(jax.random.key(0), seen)
    output = module.apply(params, seen)
    code, embed = (params["params"][name] for name in ("Linear_0", "Linear_1"))
    patches = np.pad(seen, ((0, 0), (0, 0), (0, 3))).reshape(3, 3, 4, 5)  # 17 rays: the last patch has two of them
    codes = np.maximum(patches @ code["kernel"][:5] + code["kernel"][5], 0).reshape(3, 3, 12)
    np.testing.assert_allclose(output.layers["codes"], codes @ embed["kernel"] + embed["bias"], rtol=1e-5, atol=1e-6)
