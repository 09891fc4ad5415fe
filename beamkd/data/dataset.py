"""Windows with their splits, on the device or streamed to it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from beamkd.base import Array, Batch, Rows, Stream, Windows
from beamkd.data.inputs import taken_by_networks
from beamkd.data.runs import Runs, gather_runs, make_runs, split_of_runs
from beamkd.data.windows import Split, gather, on_host, select, split_drives, stack_splits


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Windows, and which of them each member trains on, validates by and is tested on.

    Attributes:
      windows: W windows.
      split: rows of each part, [members, N].
      origin: what a folder says of how it came about; None if it says nothing.
      scenarios: numbers of the DeepSense scenarios that it was read from.
      run: windows of a row; 0: each is a row by itself. See `in_runs`.
    """

    windows: Windows
    split: Split
    origin: str | None = None
    scenarios: tuple[int, ...] = ()
    run: int = 0

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

    def source(self, names: Sequence[str]) -> Windows | Runs | Stream:
        """The windows with these sensors alone; a stream of them where their frames do not live on the device."""
        frames = self.windows.frames
        frames = frames.replace(sensors={name: frames.sensors[name] for name in names})
        windows = self.windows.replace(frames=frames)
        if self.run:
            return make_runs(windows, self.run)
        return Stream(functools.partial(gather, windows)) if on_host(windows) else windows

    @property
    def take(self) -> Callable[[Any, Rows], Batch]:
        """How batches are taken from the windows of `source`, or from what was read of its stream."""
        if self.run:
            return gather_runs
        return select if on_host(self.windows) else gather

    def in_runs(self, length: int) -> "Dataset":
        """The same, where a row is up to `length` windows that follow one another; a batch has all those of its rows.

        Networks then encode a frame once for all of them, which takes a fourth of the time where eight windows of eight
        frames share fifteen.

        Raises:
          InputError: length < 1, or the windows are streamed.
        """
        split = split_of_runs(make_runs(self.windows, length), self.split)
        return dataclasses.replace(self, split=split, run=length)


def deal(
    keys: Array,
    windows: Windows,
    order: Literal["random", "inorder"] = "random",
    origin: str | None = None,
    scenarios: tuple[int, ...] = (),
    places: Array | None = None,
) -> Dataset:
    """A dataset of windows whose drives are dealt out for each member, as `split_drives` does.

    Args:
      keys: [members].
      windows: W windows.
      order: of the drives.
      origin: what a folder says of how it came about.
      scenarios: numbers of the DeepSense scenarios that the windows are of.
      places: as of `split_drives`.
    """
    splits = [split_drives(key, windows, order, places=places) for key in keys]
    return Dataset(windows, stack_splits(splits), origin, scenarios)
