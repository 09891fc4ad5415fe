import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Rows
from beamkd.training import all_rows, batches
from beamkd.training.batches import evaluation_batches, in_batches, over_batches, own_share, shuffled


@pytest.mark.parametrize(("count", "size", "shape"), [(10, 4, (3, 4)), (8, 4, (2, 4)), (3, 4, (1, 3)), (5, 1, (5, 1))])
def test_batches_hold_every_row_once_and_the_last_is_padded_not_dropped(count, size, shape):
    batches = in_batches(Rows(jnp.arange(count) + 50, jnp.ones(count, bool)), size)
    assert batches.index.shape == batches.mask.shape == shape
    np.testing.assert_array_equal(batches.index[batches.mask], np.arange(count) + 50)
    assert batches.mask.sum() == count


def test_rows_that_were_padded_stay_so_in_batches():
    mask = jnp.array([True, False, True, True, False])
    batches = in_batches(Rows(jnp.arange(5), mask), 2)
    np.testing.assert_array_equal(batches.mask, [[True, False], [True, True], [False, False]])
    np.testing.assert_array_equal(batches.index[:2], [[0, 1], [2, 3]])


def test_all_rows_are_counted_from_zero_and_unpadded():
    rows = all_rows(4)
    np.testing.assert_array_equal(rows.index, [0, 1, 2, 3])
    np.testing.assert_array_equal(rows.mask, [True] * 4)


def test_shuffling_keeps_every_row_and_puts_padded_ones_last():
    rows = Rows(jnp.arange(40) + 7, jnp.arange(40) % 4 != 1)
    found = jax.jit(shuffled)(jax.random.key(0), rows)
    np.testing.assert_array_equal(found.mask, np.arange(40) < 30)
    np.testing.assert_array_equal(np.sort(found.index[:30]), np.asarray(rows.index)[np.asarray(rows.mask)])
    np.testing.assert_array_equal(np.sort(found.index), rows.index)
    assert not np.array_equal(found.index[:30], np.sort(found.index[:30]))


def test_every_order_is_equally_likely():
    orders = jax.jit(jax.vmap(lambda key: shuffled(key, all_rows(3)).index))(jax.random.split(jax.random.key(1), 6000))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 150  # five standard deviations


@pytest.mark.parametrize("count", [1, 4, 5, 8, 9])
def test_devices_have_all_rows_of_a_batch_once_and_fill_up_with_zeros(count):
    batch = {"rows": jnp.arange(1, count + 1), "mask": jnp.ones((count, 2), bool)}
    found = jax.vmap(lambda _: own_share(batch, "devices"), axis_name="devices")(jnp.zeros(4))
    rows, mask = found["rows"].reshape(-1), found["mask"].reshape(-1, 2)
    assert len(rows) == 4 * -(-count // 4)
    np.testing.assert_array_equal(rows, [*range(1, count + 1), *[0] * (len(rows) - count)])
    np.testing.assert_array_equal(mask, (rows > 0)[:, None] & np.ones(2, bool))
    assert own_share(batch) is batch


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_each_batch_is_one_devices_and_all_have_the_results(steps):
    batches = jnp.arange(steps * 2.0).reshape(steps, 2)

    def on_device(devices):
        def function(batch):
            return {"sum": batch.sum(), "batch": batch, "device": jax.lax.axis_index("devices")}

        return over_batches(function, batches, "devices")

    found = jax.vmap(on_device, axis_name="devices")(jnp.zeros(4))
    for device in range(4):
        np.testing.assert_array_equal(found["sum"][device], batches.sum(-1))
        np.testing.assert_array_equal(found["batch"][device], batches)
        np.testing.assert_array_equal(found["device"][device], np.arange(steps) // -(-steps // 4))


def test_batches_for_evaluation_are_counted_in_bytes(monkeypatch):
    monkeypatch.setattr(batches, "EVALUATION_BYTES", 1000)
    rows = all_rows(600)
    small, large = (
        {"scans": jax.ShapeDtypeStruct((1, width), jnp.float32), "mask": jax.ShapeDtypeStruct((1,), bool)}
        for width in (0, 30)
    )
    assert evaluation_batches(rows, small).index.shape == (2, 512)  # never more
    assert evaluation_batches(rows, large).index.shape == (75, 8)  # of 121 bytes each
    monkeypatch.setattr(batches, "EVALUATION_BYTES", 1)
    assert evaluation_batches(rows, large).index.shape == (600, 1)
