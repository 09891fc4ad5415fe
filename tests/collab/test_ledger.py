"""What strategies cost: operations by hand, seconds and joules from bytes and operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.collab import Ledger, Rates, Work, work_of
from beamkd.collab.strategies import local
from beamkd.training import FitConfig
from beamkd.training.operations import operations_of
from tests.collab.federations import dataset_of, federation_of


def test_products_in_loops_and_choices_count_as_often_as_they_are_done():
    square, wide = jnp.zeros((8, 8)), jnp.zeros((8, 100))

    def program(square, wide):
        def step(carry, _):
            return jnp.tanh(carry @ square), None

        found, _ = jax.lax.scan(step, square, None, length=7)
        found = jax.lax.cond(found.sum() > 0, lambda x: x @ square @ square, lambda x: x @ square, found)
        return jax.jit(lambda x: x @ wide)(found)

    assert operations_of(jax.make_jaxpr(program)(square, wide)) == 7 * 2 * 8**3 + 2 * 2 * 8**3 + 2 * 8 * 8 * 100
    batched = jnp.zeros((5, 3, 4)), jnp.zeros((5, 4, 6))
    assert operations_of(jax.make_jaxpr(jax.vmap(jnp.matmul))(*batched)) == 2 * 5 * 3 * 4 * 6


def test_convolutions_count_as_their_formula():
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(2, 2),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    maps, kernel = jnp.zeros((2, 10, 10, 6)), jnp.zeros((3, 3, 2, 9))
    assert operations_of(jax.make_jaxpr(convolve)(maps, kernel)) == 2 * (2 * 5 * 5 * 9) * (3 * 3 * 2)


def test_work_of_nodes_that_train_alone_is_that_of_their_steps():
    dataset = dataset_of()
    fit = FitConfig(epochs=4, batch_size=16)
    federation = federation_of(dataset, sizes=(3, 2), fit=fit)
    work = work_of(local(epochs=3), federation)
    rows = federation.groups[0].own.train.mask.shape[-1]
    steps = 3 * -(-rows // 16)
    for node, size in enumerate((3, 2)):
        read_out = 2 * 16 * size * 64
        # Forward, and two products for the gradient; of the frames alone no gradient is wanted.
        expected = steps * (3 * read_out + 2 * 2 * 16 * 8 * 216 * size)
        assert work.nodes[node] == expected
    assert work.centre == 0


def test_seconds_and_joules_are_those_of_bytes_and_operations():
    work = Work(nodes=np.array([2e9, 4e9]), centre=3e9, begin=1e9)
    rates = Rates(up=1e3, down=1e4, between=1e2, node=1e9, centre=1e10, joules_per_byte=0.5, joules_per_flop=1e-9)
    each = np.array([2000, 4000])
    ledger = Ledger(rounds=[{"up": each, "down": 2 * each}] * 2, longest=[{"up": each / 2, "down": each}] * 2)
    np.testing.assert_allclose(ledger.seconds(work, rates), 2 * (each / 2 / 1e3 + each / 1e4 + 4 + 0.3))
    np.testing.assert_allclose(ledger.joules(work, rates), 0.5 * 6 * each + 1e-9 * (1e9 + 2 * 9e9))


def test_rates_that_are_none_are_refused():
    with pytest.raises(InputError, match="^up: expected 1 or more, found 0$"):
        Rates(up=0)
