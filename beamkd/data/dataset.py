"""Windows with their splits, on the device or streamed to it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from beamkd.base import Array, Batch, Rows, Stream, Windows
from beamkd.data.inputs import taken_by_networks
from beamkd.data.windows import Split, gather, on_host, select, split_drives, stack_splits


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Windows, and which of them each member trains on, validates by and is tested on.

    Attributes:
      windows: W windows.
      split: rows of each part, [members, N].
      origin: what a folder says of how it came about; None if it says nothing.
      scenarios: numbers of the DeepSense scenarios that it was read from.
    """

    windows: Windows
    split: Split
    origin: str | None = None
    scenarios: tuple[int, ...] = ()

    @property
    def observed(self) -> int:
        """L."""
        return self.windows.observed.shape[1]

    @property
    def future(self) -> int:
        """J."""
        return self.windows.predicted.shape[1] - 1

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of all sensors that the windows have."""
        return tuple(sorted(self.windows.frames.sensors))

    @property
    def beams(self) -> int:
        """M."""
        return self.windows.frames.power.shape[-1]

    def spec(self, names: Sequence[str]) -> dict[str, jax.ShapeDtypeStruct]:
        """What a network of these sensors takes of one window, by name, [L, ...]: enough for its weights and costs."""

        def spec(name):
            frames = self.windows.frames.sensors[name]
            stored = jax.ShapeDtypeStruct((self.observed, *frames.shape[1:]), frames.dtype)
            shape = jax.eval_shape(functools.partial(taken_by_networks, name), stored).shape
            return jax.ShapeDtypeStruct(shape, jnp.float32)

        return {name: spec(name) for name in names}

    def source(self, names: Sequence[str]) -> Windows | Stream:
        """The windows with these sensors alone; a stream of them where their frames do not live on the device."""
        frames = self.windows.frames
        frames = frames.replace(sensors={name: frames.sensors[name] for name in names})
        windows = self.windows.replace(frames=frames)
        return Stream(functools.partial(gather, windows)) if on_host(windows) else windows

    @property
    def take(self) -> Callable[[Any, Rows], Batch]:
        """How batches are taken from the windows of `source`, or from what was read of its stream."""
        return select if on_host(self.windows) else gather


def deal(
    keys: Array,
    windows: Windows,
    order: Literal["random", "inorder"] = "random",
    origin: str | None = None,
    scenarios: tuple[int, ...] = (),
) -> Dataset:
    """A dataset of windows whose drives are dealt out for each member, as `split_drives` does.

    Args:
      keys: [members].
      windows: W windows.
      order: of the drives.
      origin: what a folder says of how it came about.
      scenarios: numbers of the DeepSense scenarios that the windows are of.
    """
    return Dataset(windows, stack_splits([split_drives(key, windows, order) for key in keys]), origin, scenarios)
