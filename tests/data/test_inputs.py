import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from beamkd.base import Output, Rows, Shared
from beamkd.data import forward_of, initial_model, select, sensor_batch, sensor_input
from beamkd.models import GruStudent

FUTURE = 2
RNG = np.random.default_rng(0)
SEEN = {name: jnp.asarray(RNG.random((3, 4, width)), jnp.float32) for name, width in {"lidar": 5, "other": 7}.items()}


@pytest.fixture
def batch():
    return sensor_batch(SEEN, FUTURE)


def test_networks_see_units_of_ten_metres_of_lidar_and_others_as_they_are(batch):
    np.testing.assert_allclose(batch.sensors["lidar"], 10 * SEEN["lidar"], rtol=1e-6)
    np.testing.assert_array_equal(batch.sensors["other"], SEEN["other"])


def test_a_batch_gives_what_it_was_made_of(batch):
    seen = sensor_input("lidar", "other")(batch)
    assert seen.keys() == SEEN.keys()
    jax.tree.map(lambda found, expected: np.testing.assert_allclose(found, expected, rtol=1e-6), seen, SEEN)
    alone = sensor_input("lidar")(sensor_batch(SEEN["lidar"], FUTURE, "lidar"))
    np.testing.assert_allclose(alone, SEEN["lidar"], rtol=1e-6)


def test_positions_are_taken_in_units_of_ten_metres():
    places = jnp.array([[[20.0, -5.0]]])
    np.testing.assert_allclose(sensor_batch(places, FUTURE, "gps").sensors["gps"], 10 * places)


def test_masks_are_stored_as_numpys_bits_and_taken_as_zeros_and_ones():
    masks = RNG.random((3, 4, 6, 16)) < 0.4
    batch = sensor_batch(jnp.asarray(masks), FUTURE, "masks")
    stored = batch.sensors["masks"]
    assert stored.dtype == jnp.uint8 and stored.shape == (3, 4, 6, 2)
    np.testing.assert_array_equal(stored, np.packbits(masks, axis=-1))
    taken = jax.jit(sensor_input("masks", frames=2))(batch)
    assert taken.dtype == jnp.float32
    np.testing.assert_array_equal(taken, masks[:, 2:])


def test_soft_masks_pass_as_they_are_and_so_do_their_gradients():
    soft = jnp.asarray(RNG.random((3, 4, 6, 16)), jnp.float32)

    def objective(soft):
        return jnp.square(sensor_input("masks")(sensor_batch(soft, FUTURE, "masks"))).sum()

    np.testing.assert_array_equal(sensor_input("masks")(sensor_batch(soft, FUTURE, "masks")), soft)
    np.testing.assert_allclose(jax.jit(jax.grad(objective))(soft), 2 * soft, rtol=1e-6)


def test_it_has_rows_and_slots_and_neither_labels_nor_powers(batch):
    assert batch.labels.shape == (3, FUTURE + 1) and (batch.labels < 0).all()
    assert batch.power.shape == (3, FUTURE + 1, 0) and batch.mask.all()
    chosen = select(batch, Rows(jnp.array([1]), jnp.ones(1, bool)))
    assert chosen.sensors["other"].shape == (1, 4, 7)


def test_a_single_sequence_and_unlike_numbers_of_rows_are_refused():
    for bad in ({"lidar": SEEN["lidar"][0]}, {**SEEN, "other": SEEN["other"][:2]}):
        with pytest.raises(AssertionError):
            sensor_batch(bad, FUTURE)


@pytest.mark.parametrize("frames", [1, 3, 4])
def test_the_last_frames_are_seen(batch, frames):
    np.testing.assert_array_equal(sensor_input("other", frames=frames)(batch), SEEN["other"][:, 4 - frames :])


@pytest.mark.parametrize("frames", [None, 2, 9])
def test_frames_that_windows_share_are_taken_as_those_gathered(batch, frames):
    rows = jnp.array([[0, 1, 2], [1, 2, 3], [4, 3, 3]])
    stored = {"lidar": jnp.asarray(10 * RNG.random((5, 7)), jnp.float32), "gps": 10 * jnp.arange(10.0).reshape(5, 2)}
    stored["masks"] = jnp.packbits(jnp.asarray(RNG.random((5, 6, 16)) < 0.4), axis=-1)
    shared = {name: Shared(each, rows) for name, each in stored.items()}
    gathered = {name: each[rows] for name, each in stored.items()}
    inputs = sensor_input(*stored, frames=frames)
    found, expected = (inputs(batch.replace(sensors=sensors)) for sensors in (shared, gathered))
    for name, each in found.items():
        assert each.shape == expected[name].shape and each.shape[:2] == (3, min(frames or 3, 3))
        np.testing.assert_array_equal(each.frames[each.rows], expected[name])


class Both(nn.Module):
    """A network of two sensors."""

    beams: int = 6

    @nn.compact
    def __call__(self, seen, future=0, train=False, slots=None):
        codes = sum(nn.Dense(8)(seen[name]) for name in sorted(seen))
        states = nn.tanh(jnp.pad(codes, ((0, 0), (0, future), (0, 0))))
        logits = nn.Dense(self.beams)(states)
        return Output(logits if slots is None else logits[:, -slots:], states[:, -1])


@pytest.mark.parametrize("module, names", [(GruStudent(beams=6), ("lidar",)), (Both(), ("lidar", "other"))])
@pytest.mark.parametrize("frames", [None, 2])
def test_a_model_is_a_function_of_batches_with_its_sensors_and_frames(batch, module, names, frames):
    spec = {name: jax.ShapeDtypeStruct(SEEN[name].shape[1:], jnp.float32) for name in names}
    keys = jax.random.split(jax.random.key(0), 2)
    model = initial_model(keys, module, spec, frames)
    length = frames or 4
    assert model.inputs == {name: (length, SEEN[name].shape[-1]) for name in names}
    assert all(len(leaf) == len(keys) for leaf in jax.tree.leaves(model.params))
    params = jax.tree.map(lambda leaf: leaf[1], model.params)
    seen = {name: SEEN[name][:, 4 - length :] for name in names}
    apply = jax.jit(functools.partial(module.apply, future=FUTURE, train=False))
    expected = apply(params, seen if len(seen) > 1 else seen["lidar"])
    found = jax.jit(forward_of(model))(params, batch)
    assert found.logits.shape == (3, length + FUTURE, 6)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
    predicted = jax.jit(forward_of(model, predicted_only=True))(params, batch).logits
    np.testing.assert_allclose(predicted, expected.logits[:, -FUTURE - 1 :], rtol=1e-5, atol=1e-6)


def test_weights_do_not_depend_on_the_number_of_frames():
    keys = jax.random.key(0)[None]
    short, long = (
        initial_model(keys, GruStudent(), {"lidar": jax.ShapeDtypeStruct((frames, 5), jnp.float32)})
        for frames in (1, 9)
    )
    jax.tree.map(np.testing.assert_array_equal, short.params, long.params)
