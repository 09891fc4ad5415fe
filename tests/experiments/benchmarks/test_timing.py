import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import timing
from experiments.benchmarks.timing import Bench, Cost, Point, compile_program, cost_of, sample


@pytest.fixture
def clock(monkeypatch):
    """A list with one entry, the time now, which only those who add to it let pass."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def work(clock, seconds, asked):
    """A call whose rounds take `seconds` each, but the first one ten times as long; notes the rounds asked for."""

    def call(rounds):
        clock[0] += rounds * seconds * (1 if asked else 10)
        asked.append(rounds)

    return call


def test_samples_are_seconds_a_round_without_the_first_call(clock):
    asked = []
    seconds = sample(work(clock, 0.03, asked), repeats=6)
    np.testing.assert_allclose(seconds, [0.03] * 6)
    assert asked == [1, 1] + [4] * 6  # 4 rounds are the fewest that last 0.1 s


def test_three_samples_are_enough_where_they_take_long(clock):
    asked = []
    assert len(sample(work(clock, 7.0, asked), repeats=20)) == 3
    assert set(asked) == {1}


def test_fewer_samples_than_three_if_so_asked(clock):
    assert len(sample(work(clock, 7.0, []), repeats=1)) == 1


def test_a_round_too_short_to_time_is_repeated_so_often_and_no_more(clock):
    asked = []
    sample(work(clock, 1e-9, asked), repeats=1)
    assert asked[-1] == timing.MOST_ROUNDS


def test_cost_of_a_matrix_product_is_that_by_hand():
    a, b = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((16, 4), jnp.float32)
    found = cost_of(jnp.matmul, a, b)
    assert found.flops == 2 * 8 * 16 * 4
    assert found.bytes == 4 * (8 * 16 + 16 * 4 + 8 * 4)


def test_costs_add_up():
    assert Cost(3.0, 5.0).times(2).plus(Cost(1.0, 1.0)) == Cost(7.0, 11.0)


def test_a_program_gives_what_the_function_gives_and_tells_its_memory():
    program = compile_program(lambda a, b: a + 2 * b["x"], jnp.arange(256.0), {"x": jnp.ones(256)})
    np.testing.assert_array_equal(program.call(*program.args), np.arange(256) + 2)
    assert program.compile_seconds > 0
    assert program.peak_bytes >= 3 * 256 * 4
    assert program.cost.flops == 2 * 256


@pytest.mark.parametrize(("backend", "rate"), [("cpu", 1e11), ("gpu", 4e11), ("tpu", 4e11)])
def test_devices_of_a_cpu_share_the_cores_that_the_large_product_used(backend, rate, monkeypatch):
    monkeypatch.setattr(timing.jax, "default_backend", lambda: backend)
    bench = Bench(points=(), dtypes=("float32",), repeats=1, rates={"float32": 1e11})
    row = bench.row(Point(64, members=8, devices=4), np.array([0.5]), 512, cost=Cost(1e10, 1.0))
    assert row["matmul_flops_per_second"] == rate
    assert row["fraction_of_matmul"] == pytest.approx(2e10 / rate)


def test_what_has_no_operations_is_compared_with_none():
    bench = Bench(points=(), dtypes=("float32",), repeats=1, rates={"float32": 1e11})
    row = bench.row(Point(64), np.array([0.5]), 64)
    assert row["fraction_of_matmul"] is None and row["matmul_flops_per_second"] is None
