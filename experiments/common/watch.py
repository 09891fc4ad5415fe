"""Drives to watch: what was sensed and measured on some test drives, and what networks say along them."""

import functools
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from beamkd.base import SLOT_SECONDS, Array, Drives, Model, Rows, Windows
from beamkd.data import Dataset, forward_of, gather, make_windows
from beamkd.data.inputs import taken_by_networks
from beamkd.sim.radar import TESTBED
from beamkd.training import from_primary, to_host
from experiments.common.folder import WATCH
from experiments.common.run import Run
from experiments.common.trackers import most_likely

MOST_BYTES = 3_000_000
"""Of the drives that are kept: a page with them has a third more."""

MOST_DRIVES = 12
"""Likewise: to choose from."""

LIKELY = 5
"""K: of each slot the most likely beams are kept."""

MAP_ROWS = 64
"""Of maps that are kept, at most; each has the greatest of as many rows as fall into it."""

BEYOND = 8.0
"""m, by which the range in a radar's map is more than the farthest car's."""

DEPTH = 30.0
"""dB under the strongest cell, at which maps that are kept end."""

CHUNK = 64
"""Windows that a network sees at once."""


def keep_drives(run: Run, dataset: Dataset, networks: dict[str, Model]) -> None:
    """Write test drives of the first seed to the run's folder, which `beamkd.report.watch` makes a page of.

    The file has, of F frames of the longest drives, N networks, S = J + 1 slots and K beams:
      observed: L. slot_seconds: s from frame to frame. metres: of range in radar's maps.
      drive, slot [F], position [F, 2] m, power [F, M]: as in `Drives`. azimuth: [M] degrees to the left of broadside,
        where the positions say that each beam looks.
      lidar [F, R] m, gps [F, 2] m, masks [F, H, W / 8] bits, if there are such: as in `Drives`. radar, doppler [F, H,
        64] uint8, likewise: levels from `DEPTH` under the strongest, 0, to it, 255; bearings from the right to the
        left, rows from near to far, or from those that come near to those that go away.
      networks: [N] names. beams [N, F, S, K], the most likely ones, the likeliest first; negative where fewer frames
        than L were seen. probabilities: theirs.

    Args:
      run: the run; of several processes all must call this.
      dataset: the windows; not in runs.
      networks: by name, with weights [members, ...].
    """
    params = to_host({name: model.params for name, model in networks.items()})

    def write() -> None:
        drives = longest_drives(dataset, _bytes_a_frame(dataset, len(networks)))
        windows = make_windows(drives, dataset.observed, dataset.future)
        said = [predictions(model, _first(params[name]), windows) for name, model in networks.items()]
        beams, probabilities = map(np.stack, zip(*said, strict=True))
        names = np.array(list(networks))
        arrays = {**_measured(drives), "networks": names, "beams": beams, "probabilities": probabilities}
        np.savez_compressed(run.folder / WATCH, observed=dataset.observed, slot_seconds=SLOT_SECONDS, **arrays)

    from_primary(write)


def longest_drives(dataset: Dataset, bytes_a_frame: int) -> Drives:
    """The longest test drives of the first seed that fit into `MOST_BYTES`, as NumPy's arrays; of none, part of one."""
    test = jax.tree.map(lambda leaf: np.asarray(leaf[0]), dataset.split.test)
    tested = np.unique(np.asarray(dataset.windows.drive)[test.index[test.mask]])
    frames = dataset.windows.frames
    of_frame = np.asarray(frames.drive)
    lengths = np.array([np.count_nonzero(of_frame == number) for number in tested])
    order, most = np.argsort(-lengths, kind="stable")[:MOST_DRIVES], MOST_BYTES // bytes_a_frame
    fitting = max(np.count_nonzero(np.cumsum(lengths[order]) <= most), 1)
    rows = np.flatnonzero(np.isin(of_frame, tested[order[:fitting]]))[: max(most, dataset.observed)]
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], frames)


def _bytes_a_frame(dataset: Dataset, networks: int) -> int:
    """What a page needs for a frame: two bytes for a power, range, beam and probability, one for a cell of a map."""
    frames = dataset.windows.frames
    sizes = {"lidar": lambda seen: 2 * seen.shape[1], "masks": lambda seen: seen[0].size, "gps": lambda seen: 4}
    seen = sum(sizes.get(name, lambda seen: MAP_ROWS * seen.shape[-1])(seen) for name, seen in frames.sensors.items())
    return seen + 2 * dataset.beams + 4 * networks * (dataset.future + 1) * LIKELY


def predictions(model: Model, params: Any, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """What a network says in each frame of the current slot and of those ahead.

    Args:
      model: the network; of its weights nothing is looked at.
      params: its weights, of one member.
      windows: over F frames.

    Returns:
      The most likely beams, [F, J + 1, K] int16, negative in frames without a window; and their probabilities, float32.
    """
    program = functools.partial(_logits, model.module, tuple(model.inputs.items()))
    count = len(windows)
    pieces = [np.minimum(np.arange(first, first + CHUNK), count - 1) for first in range(0, count, CHUNK)]
    logits = [program(params, windows, Rows(rows, np.ones(CHUNK, bool))) for rows in pieces]
    likely, shares = most_likely(np.concatenate(jax.device_get(logits))[:count], LIKELY)
    current, frames = np.asarray(windows.predicted[:, 0]), len(windows.frames.power)
    beams = np.full((frames, *likely.shape[1:]), -1, np.int16)
    probabilities = np.zeros(beams.shape, np.float32)
    beams[current], probabilities[current] = likely, shares
    return beams, probabilities


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logits(module: nn.Module, inputs: tuple, params: Any, windows: Windows, rows: Rows) -> Array:
    """Scores of the slots that are predicted, [B, J + 1, M]; networks that differ in their weights share a program."""
    batch = gather(windows, rows)
    forward = forward_of(Model(module, None, dict(inputs)), predicted_only=True)
    return forward(params, batch).logits[:, -batch.labels.shape[1] :]


def _first(params: Any) -> Any:
    """Weights of the first member."""
    return jax.tree.map(lambda leaf: leaf[0], params)


def _measured(drives: Drives) -> dict[str, np.ndarray]:
    """What the file has of drives."""
    arrays = {"drive": drives.drive, "slot": drives.slot, "position": drives.position, "power": drives.power}
    farthest = np.hypot(*drives.position.T).max() + BEYOND
    sensors = dict(drives.sensors)
    if "radar" in sensors:
        maps = sensors["radar"][:, : max(round(farthest / TESTBED.range_cell), 1)]
        arrays["metres"] = np.float32(maps.shape[1] * TESTBED.range_cell)
        sensors["radar"] = levels(np.fft.fftshift(_taken("radar", maps), axes=-1))
    if "doppler" in sensors:
        sensors["doppler"] = levels(np.fft.fftshift(_taken("doppler", sensors["doppler"]), axes=(-2, -1)))
    return {**arrays, "azimuth": beam_azimuths(drives), **sensors}


def _taken(name: str, maps: np.ndarray) -> np.ndarray:
    return np.asarray(taken_by_networks(name, maps))


def levels(maps: np.ndarray) -> np.ndarray:
    """Magnitudes [F, H, W] as levels, from `DEPTH` dB under the strongest of all, 0, to it, 255; H up to `MAP_ROWS`."""
    each = -(-maps.shape[1] // MAP_ROWS)
    padded = np.pad(maps, ((0, 0), (0, -maps.shape[1] % each), (0, 0)))
    pooled = padded.reshape(len(maps), -1, each, maps.shape[2]).max(2)
    share = np.maximum(pooled / max(pooled.max(), np.finfo(np.float32).tiny), 10 ** (-DEPTH / 20))
    return np.round(255 * (1 + 20 * np.log10(share) / DEPTH)).astype(np.uint8)


def beam_azimuths(drives: Drives) -> np.ndarray:
    """Where beams look, [M] degrees to the left of broadside: the line through azimuths of the car by the best beam."""
    beam, azimuth = drives.power.argmax(-1), np.rad2deg(np.arctan2(drives.position[:, 1], drives.position[:, 0]))
    line = np.polyfit(beam, azimuth, 1) if np.ptp(beam) else (0.0, azimuth.mean())
    return np.polyval(line, np.arange(drives.power.shape[1])).astype(np.float32)
