"""How long compiled programs take, what they cost, and what the device does at best."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from beamkd.training import fast_options

LEAST_SECONDS = 0.1
"""A sample lasts at least so long: short rounds are repeated within it."""

MOST_ROUNDS = 1000
"""Rounds of one sample at most."""

PATIENCE = 8.0
"""Seconds of sampling after which three samples are enough."""

TRAFFIC = 2**32
"""Bytes that a sample of the memory's rate moves."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What XLA counts in a compiled program.

    Attributes:
      flops: floating-point operations.
      bytes: read and written by its fused kernels, whether or not a cache holds them.
    """

    flops: float
    bytes: float

    def times(self, factor: float) -> "Cost":
        """The cost of so many of them."""
        return Cost(factor * self.flops, factor * self.bytes)

    def plus(self, other: "Cost") -> "Cost":
        """The cost of both."""
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program, with its arguments where it wants them.

    Attributes:
      call: the program.
      args: what it was compiled for, on its devices.
      compile_seconds: of tracing and compiling.
      cost: of one call, with loops counted once.
      peak_bytes: of arguments, results and temporaries together, on each device.
    """

    call: Callable
    args: tuple
    compile_seconds: float
    cost: Cost
    peak_bytes: int


def compile_program(function: Callable, *args: Any) -> Program:
    """Compile `function` for these arguments."""
    began = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile(fast_options())
    seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Program(
        call=compiled,
        args=jax.device_put(args, compiled.input_shardings[0]),
        compile_seconds=seconds,
        cost=_count(compiled),
        peak_bytes=peak - memory.alias_size_in_bytes,
    )


def cost_of(function: Callable, *args: Any) -> Cost:
    """Of one call of `function`, compiled for these arguments or for their shapes; loops count once."""
    # How well the machine code is optimised has no part in the count, and makes it take twice as long.
    return _count(jax.jit(function).lower(*args).compile({"xla_backend_optimization_level": 0}))


def _count(compiled: Any) -> Cost:
    counted = compiled.cost_analysis() or {}
    return Cost(counted.get("flops", 0.0), counted.get("bytes accessed", 0.0))


def repeated(call: Callable[[], Any]) -> Callable[[int], None]:
    """A function of no arguments as one of rounds, for `sample`; each round waits for the one before."""

    def rounds(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(call())

    return rounds


def sample(call: Callable[[int], Any], repeats: int) -> np.ndarray:
    """Seconds that a round takes.

    Args:
      call: call(rounds) runs so many rounds.
      repeats: samples to take; three are enough where they take long.

    Returns:
      [samples] float64, each the mean over its rounds.
    """

    def seconds(rounds: int) -> float:
        began = time.perf_counter()
        jax.block_until_ready(call(rounds))
        return (time.perf_counter() - began) / rounds

    seconds(1)  # warms up
    rounds = min(math.ceil(LEAST_SECONDS / seconds(1)), MOST_ROUNDS)
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < repeats and (len(samples) < 3 or time.perf_counter() - began < PATIENCE):
        samples.append(seconds(rounds))
    return np.array(samples)


def matmul_rate(dtype: DTypeLike, size: int, repeats: int) -> float:
    """FLOP/s of a product of two square matrices of `size` rows on one device, median."""
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul, compiler_options=fast_options())
    return 2 * size**3 / float(np.median(sample(repeated(lambda: product(matrix, matrix)), repeats)))


def memory_rate(size: int, repeats: int) -> float:
    """Bytes a second that one device reads and writes, adding one to `size` bytes of float32 over and over, median."""
    passes = max(1, TRAFFIC // (2 * size))
    # In place, in a loop: a new buffer would have to be mapped into memory first, which takes longer than to fill it.
    add = jax.jit(lambda array: jax.lax.fori_loop(0, passes, lambda _, array: array + 1, array))
    array = jnp.zeros(size // 4, jnp.float32)
    return 2 * size * passes / float(np.median(sample(repeated(lambda: add(array)), repeats)))
