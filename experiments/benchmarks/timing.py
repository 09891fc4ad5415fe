"""How long compiled programs take, what they cost, what the device does at best, and rows of such figures."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from beamkd.training import fast_options, lower_on_cpu

Timing = dict[str, Any]
"""A row of results.json."""

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
    """What XLA counts in a compiled program; of networks, in the CPU's.

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
    """Of one call of `function`, compiled for a CPU, for arguments of these shapes; loops count once."""
    # How well the machine code is optimised has no part in the count, and makes it take twice as long.
    return _count(lower_on_cpu(function, *args).compile({"xla_backend_optimization_level": 0}))


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


@dataclasses.dataclass(frozen=True)
class Point:
    """One way to run a case.

    Attributes:
      batch: windows a step, or drives or frames at once.
      members: of `map_members`, each with weights and random numbers of its own.
      devices: that these are spread over.
      dtype: that networks compute in.
    """

    batch: int
    members: int = 1
    devices: int = 1
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Bench:
    """How to time.

    Attributes:
      points: to time training steps and inference at.
      dtypes: that networks compute in.
      repeats: samples a point.
      rates: FLOP/s of a large matrix product on one device, by dtype; on a CPU that product uses all cores.
      seed: of simulated drives.
      quick: fewer drives, and the small pipeline.
      folder: a DeepSense folder to read; one is simulated and written if None.
      scenario: its number.
      pipeline_seeds: numbers of seeds to run the pipeline for.
      pipeline_recipes: names of the recipes to run it with.
    """

    points: tuple[Point, ...]
    dtypes: tuple[str, ...]
    repeats: int
    rates: dict[str, float]
    seed: int = 0
    quick: bool = False
    folder: Path | None = None
    scenario: int = 8
    pipeline_seeds: tuple[int, ...] = (1, 20)
    pipeline_recipes: tuple[str, ...] = ("beamkd", "paper")

    @property
    def alone(self) -> list[Point]:
        """One member on one device, in each dtype."""
        return [Point(self.points[0].batch, dtype=dtype) for dtype in self.dtypes]

    def matmul_reach(self, point: Point) -> float:
        """FLOP/s of large matrix products on all devices of a point together."""
        # The devices of a CPU share its cores, all of which one product on one of them uses already.
        devices = 1 if jax.default_backend() == "cpu" else point.devices
        return devices * self.rates[point.dtype]

    def row(
        self,
        point: Point,
        seconds: np.ndarray,
        items: float,
        compile_seconds: float | None = None,
        cost: Cost | None = None,
        peak_bytes: int | None = None,
        **more: Any,
    ) -> Timing:
        """A row of results.json.

        Args:
          point: how it was run.
          seconds: [samples] that all members took.
          items: how many they did in that time.
          compile_seconds: of tracing and compilation.
          cost: of what was run, all members.
          peak_bytes: of the program, on each device.
          **more: further entries.
        """
        low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
        rate, matmul = (cost.flops / median, self.matmul_reach(point)) if cost else (None, None)
        return {
            **dataclasses.asdict(point),
            "milliseconds": 1e3 * median,
            "quartiles": [1e3 * low, 1e3 * high],
            "samples": len(seconds),
            "items_per_second": items / median,
            "compile_seconds": compile_seconds,
            "flops": cost.flops if cost else None,
            "bytes": cost.bytes if cost else None,
            "flops_per_second": rate,
            "matmul_flops_per_second": matmul,
            "fraction_of_matmul": rate / matmul if cost else None,
            "peak_bytes": peak_bytes,
            **more,
        }
