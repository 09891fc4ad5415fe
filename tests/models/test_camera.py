"""The camera networks: sizes, zero frames, frames that windows share, gradients, members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from beamkd.base import Shared
from beamkd.models import (
    CollaborativeStudent,
    CollaborativeTeacher,
    LongTermStudent,
    LongTermTeacher,
    camera,
    count_weights,
)
from beamkd.models.layers import Attention, as_convolutions, in_pieces
from beamkd.training import flops

SMALL = {
    "long-term": LongTermStudent(channels=(2, 4, 4, 6), embed=5, hidden=6, heads=2, beams=7),
    "collaborative": CollaborativeStudent(channels=(2, 3, 4), embed=5, hidden=6, beams=7),
}


@pytest.fixture(params=SMALL, scope="module")
def module(request):
    return SMALL[request.param]


@pytest.fixture(scope="module")
def params(module):
    shapes, rng = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 1, 20, 16))), np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), leaf.dtype), shapes)


def masks(count=3, length=2, size=(20, 16)):
    return (np.random.default_rng(0).random((count, length, *size)) < 0.1).astype(np.float32)


@pytest.mark.parametrize(
    ("module", "weights"),
    [(LongTermStudent(), 107_193), (CollaborativeStudent(), 172_992)],
    ids=["long-term", "collab"],
)
@pytest.mark.parametrize("size", [224, 96])
def test_students_have_the_published_numbers_of_weights_for_masks_of_any_size(module, weights, size):
    seen = jax.ShapeDtypeStruct((2, 7, size, size), jnp.float32)
    output, params = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, future=6), seen)
    assert count_weights(params) == weights
    assert output.logits.shape == (2, 13, 64) and output.features.shape == (2, 64)
    assert output.layers["codes"].shape == (2, 7, 64) and output.layers["states"].shape == (2, 13, 64)


@pytest.mark.parametrize(
    ("module", "weights", "published"),
    [(LongTermTeacher(), 1_784_120, 1.788e6), (CollaborativeTeacher(), 1_766_489, 1_762_458)],
    ids=["long-term", "collab"],
)
def test_teachers_have_about_the_published_numbers_of_weights_for_masks_of_224(module, weights, published):
    seen = jax.ShapeDtypeStruct((1, 2, 224, 224), jnp.float32)
    output, params = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, future=6), seen)
    assert count_weights(params) == weights and abs(weights / published - 1) < 0.1
    assert output.logits.shape == (1, 8, 64) and output.features.shape == (1, 64)
    assert output.layers["codes"].shape == (1, 2, 64) and output.layers["states"].shape == (1, 8, 64)
    plain = module.clone(heads=0)
    output, params = jax.eval_shape(lambda x: plain.init_with_output(jax.random.key(0), x), seen)
    assert count_weights(params) == weights - 4 * (64 * 64 + 64) and output.logits.shape == (1, 2, 64)


@pytest.mark.parametrize(
    ("module", "frames", "published"),
    [(LongTermStudent(), 8, 92e6), (LongTermStudent(), 5, 58e6), (LongTermStudent(), 3, 35e6)]
    + [(LongTermTeacher(), 8, 156e6)],
    ids=["student of 8", "of 5", "of 3", "teacher"],
)
def test_long_term_networks_take_about_the_published_operations_for_what_they_see(module, frames, published):
    seen = jax.ShapeDtypeStruct((1, frames, 224, 224), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), seen)
    with as_convolutions():
        found = flops(lambda *args: module.apply(*args).logits, params, seen) / 2  # of a multiplication and a sum one
    assert abs(found / published - 1) < 0.1


def test_future_slots_are_zero_masks_and_shared_frames_the_windows_own_also_in_gradients(module, params, monkeypatch):
    monkeypatch.setattr(camera, "PIECE", 2 * 20 * 16)  # six masks: three pieces
    seen = masks(4, 1)[:, 0]
    rows = np.array([[0, 1], [1, 2], [2, 3]])
    gathered = seen[rows]
    padded = np.concatenate([gathered, np.zeros((3, 2, 20, 16), np.float32)], axis=1)
    weights = np.random.default_rng(1).normal(size=(3, 4, 7)).astype(np.float32)

    def objective(params, masks, future):
        output = module.apply(params, masks, future, train=True, rngs={"dropout": jax.random.key(1)})
        return (weights * output.logits).sum() + jnp.square(output.features).sum(), output

    run = jax.jit(jax.value_and_grad(objective, has_aux=True), static_argnums=2)
    (_, expected), wanted = run(params, padded, 0)
    (_, output), gradient = run(params, Shared(jnp.asarray(seen), jnp.asarray(rows)), 2)
    np.testing.assert_allclose(output.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(output.layers["codes"], expected.layers["codes"][:, :2], atol=1e-5)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * max(1, np.abs(other).max()))
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(wanted))


def test_only_the_asked_slots_are_read_out_and_dropout_follows_its_key(module, params):
    run = jax.jit(module.apply, static_argnames=("future", "slots", "train"))
    whole, last = run(params, masks(), future=2), run(params, masks(), future=2, slots=3)
    np.testing.assert_allclose(last.logits, whole.logits[:, -3:], atol=1e-5)
    one, again, other = (
        run(params, masks(), future=2, train=True, rngs={"dropout": jax.random.key(seed)}).logits for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3 < np.abs(one - whole.logits).max()


@pytest.mark.parametrize("module", ["long-term"], indirect=True)
def test_an_example_does_not_depend_on_the_others(module, params):
    run = jax.jit(module.apply)
    np.testing.assert_allclose(run(params, masks()).logits[1:2], run(params, masks()[1:2]).logits, atol=1e-5)


@pytest.mark.parametrize("module", ["long-term"], indirect=True)
def test_vmap_over_weights_equals_each_network_alone(module, params):
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, -leaf]), params)
    together = jax.jit(jax.vmap(module.apply, (0, None)))(stacked, masks()).logits
    for member, scale in enumerate((1, -1)):
        own = jax.tree.map(lambda leaf, scale=scale: scale * leaf, params)
        np.testing.assert_allclose(together[member], jax.jit(module.apply)(own, masks()).logits, atol=1e-4)


def test_the_convolutions_of_the_long_term_student_are_those_of_its_formula():
    module = camera._Separable((2, 3), 0)
    seen, rng = masks(1, 1, (8, 8))[0], np.random.default_rng(2)
    shapes = jax.eval_shape(module.init, jax.random.key(0), seen)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)
    own = params["params"]

    def pooled(maps, scale):
        maps = np.pad(np.maximum(maps * own[scale]["scale"] + own[scale]["shift"], 0), ((1, 1), (1, 1), (0, 0)))
        half = range(0, len(maps) - 2, 2)
        return np.array([[maps[i : i + 3, j : j + 3].max((0, 1)) for j in half] for i in half])

    around = np.pad(seen[0], 1)
    first = np.array(
        [
            [np.tensordot(around[i : i + 3, j : j + 3], own["Conv2d_0"]["kernel"][:, :, 0]) for j in range(0, 8, 2)]
            for i in range(0, 8, 2)
        ]
    )
    around = np.pad(pooled(first, "Scale_0"), ((1, 1), (1, 1), (0, 0)))
    each = [
        [(around[i : i + 3, j : j + 3] * own["Depthwise_0"]["kernel"]).sum((0, 1)) for j in range(2)] for i in range(2)
    ]
    each = np.maximum(np.array(each) * own["Scale_1"]["scale"] + own["Scale_1"]["shift"], 0)
    maps = pooled(each @ own["Linear_0"]["kernel"], "Scale_2")

    def linear(name, values):
        return values @ own[name]["kernel"] + own[name]["bias"]

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    maps = maps * sigmoid(linear("Linear_2", np.maximum(linear("Linear_1", maps.mean((0, 1))), 0)))
    centre = own["Conv2d_1"]["kernel"][3, 3, :, 0]  # one place is left, and the others are around it
    assert maps.shape == (1, 1, 3)
    maps = maps * sigmoid(maps[0, 0] @ centre + own["Conv2d_1"]["bias"])
    found = jax.jit(module.apply)(jax.tree.map(np.float32, params), seen)
    np.testing.assert_allclose(found[0], maps.max((0, 1)), rtol=1e-4, atol=1e-5)


def test_the_blocks_of_the_teachers_are_those_of_their_formula():
    module = camera._Blocks((2, 3), (4,), 0, attention=False)
    seen, rng = masks(1, 1, (9, 8))[0], np.random.default_rng(3)
    shapes = jax.eval_shape(module.init, jax.random.key(0), seen)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)
    own, maps = params["params"], seen[0][..., None]
    for block in range(2):
        convolution, scale = own[f"Conv2d_{block}"], own[f"Scale_{block}"]
        around = np.pad(maps, ((1, 1), (1, 1), (0, 0)))
        rows, columns = (range(length // 2 * 2) for length in maps.shape[:2])  # what is odd at the end is left out
        found = np.array(
            [[np.tensordot(around[i : i + 3, j : j + 3], convolution["kernel"], 3) for j in columns] for i in rows]
        )
        found = np.maximum((found + convolution["bias"]) * scale["scale"] + scale["shift"], 0)
        maps = found.reshape(len(rows) // 2, 2, len(columns) // 2, 2, -1).max((1, 3))
    assert maps.shape == (2, 2, 3)
    expected = np.maximum(maps.reshape(-1) @ own["Linear_0"]["kernel"] + own["Linear_0"]["bias"], 0)
    found = jax.jit(module.apply)(jax.tree.map(jnp.float32, params), seen)
    assert (expected > 0).any()
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)


def test_the_blocks_of_the_teachers_pass_many_masks_in_pieces_with_the_same_gradients():
    class Encoder(nn.Module):
        piece: int

        @nn.compact
        def __call__(self, masks):
            return in_pieces(camera._Blocks((2, 4), (6,), 1, attention=False), masks, self.piece)

    seen, rng = masks(6, 1, (12, 9))[:, 0], np.random.default_rng(1)
    shapes = jax.eval_shape(Encoder(8).init, jax.random.key(0), seen)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), leaf.dtype), shapes)
    weights = rng.normal(size=(6, 6)).astype(np.float32)
    found, expected = (
        jax.jit(jax.grad(lambda params, piece=piece: (weights * Encoder(piece).apply(params, seen)).sum()))(params)
        for piece in (2, 8)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_attention_is_its_formula_head_by_head():
    rng = np.random.default_rng(0)
    queries, inputs = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4))
    own = {f"Linear_{number}": {"kernel": rng.normal(size=(4, 4)), "bias": rng.normal(size=4)} for number in range(4)}
    query, key, value = (
        values @ own[f"Linear_{number}"]["kernel"] + own[f"Linear_{number}"]["bias"]
        for number, values in enumerate((queries, inputs, inputs))
    )
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        scores = np.exp(np.einsum("bqd,bsd->bqs", query[..., head], key[..., head]) / np.sqrt(2))
        heads.append(scores / scores.sum(-1, keepdims=True) @ value[..., head])
    expected = np.concatenate(heads, -1) @ own["Linear_3"]["kernel"] + own["Linear_3"]["bias"]
    params = {"params": jax.tree.map(jnp.float32, own)}
    found = Attention(2).apply(params, jnp.float32(queries), jnp.float32(inputs))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_masks_of_a_single_window_are_refused(module):
    with pytest.raises(AssertionError):
        module.init(jax.random.key(0), jnp.zeros((2, 16, 16)))
