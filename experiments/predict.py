"""Beams by a network, frame by frame: `python -m experiments.predict --network FILE --data-dir DIR`.

Of a DeepSense folder only the network's sensors need to be there. With `--follow` scans are taken as they appear in a
folder, and with `--data-dir -` from standard input. Each gives a line of CSV: its frame, and for the current slot and
those ahead the best beams, their probabilities, and by how much the best one is more probable than the second. Beams
are counted from 1, as in column `unit1_beam_index` of DeepSense.

A bad scan is skipped, and said in a line on standard error. In a folder with a CSV the stream starts again after it, as
windows do at gaps and at the ends of drives: until L frames have come, nothing moves in those before. Scans that are
followed have no slots, and the stream goes on: it is of the last L good ones.
"""

import contextlib
import csv
import dataclasses
import io
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from beamkd.base import OBSERVED, InputError, expect_at_least
from beamkd.data import Frame, read_frames
from beamkd.data.deepsense.frames import check_shapes
from beamkd.data.deepsense.table import shown
from experiments.common.flags import main
from experiments.common.scans import Stop, Stopped, follow, rows
from experiments.common.trackers import Tracker, most_likely, open_tracker

STANDARD = Path("-")
"""In place of a folder: standard input."""


@dataclasses.dataclass(frozen=True)
class Predict:
    """Predict beams of a folder's frames one after another, or of scans as they come."""

    network: Path
    """FILE.safetensors of a run, FILE.npz of a published network, or NAME.stream.onnx of experiments.deploy."""
    data_dir: Path
    """A DeepSense folder, without powers and labels if need be; or - for scans on standard input, a row of numbers
    each, as numpy.savetxt writes them."""
    follow: bool = False
    """Take scans as they appear in the folder, in the order of their names: NAME.npy, and for LiDAR NAME.mat."""
    scenario: int | None = None
    """Number of the DeepSense scenario. If not given: of the only one in a folder, or 8 if that is one of several."""
    frames: int = OBSERVED
    """That a published network of FILE.npz looks at; others say it themselves."""
    top: int = 5
    """Beams in a line, for each slot."""
    temperature: float = 1.0
    """By which logits are divided before they become probabilities."""
    out: Path | None = None
    """FILE.csv, which must not be there yet; standard output if not given."""

    def __post_init__(self):
        expect_at_least(self, frames=1, top=1)
        if not 0 < self.temperature < math.inf:
            raise InputError(f"--temperature: expected a finite number of more than 0, found {self.temperature}")
        if self.scenario is not None:
            expect_at_least(self, scenario=1)
            if self.follow or self.data_dir == STANDARD:
                raise InputError(f"--scenario: expected it with a DeepSense folder only, found {self.scenario}")


def run(config: Predict) -> None:
    """Predict until there are no more frames, or SIGTERM or SIGINT."""
    with Stop() as stop:
        tracker = open_tracker(config.network, config.frames)
        if config.top > tracker.beams:
            raise InputError(f"--top: expected at most {tracker.beams}, the network's beams, found {config.top}")
        frames = _frames(config, tracker, stop)
        done = skipped = 0
        with _opened(config.out) as write, contextlib.suppress(Stopped, BrokenPipeError):
            write(_header(config, tracker))
            for frame in frames:
                if stop.asked:
                    break
                logits = _step(tracker, frame)
                if logits is None:
                    skipped += 1
                else:
                    write([frame.name, *_cells(logits, config)])
                    done += 1
    _say(f"{'stopped after ' if stop.asked else ''}{done:,} frames, {skipped:,} skipped")


def _frames(config: Predict, tracker: Tracker, stop: Stop) -> Iterator[Frame]:
    """What the flags name; for wrong flags `InputError` at once."""
    name, shape = next(iter(tracker.shapes.items()))
    if not (config.follow or config.data_dir == STANDARD):
        return read_frames(config.data_dir, tracker.shapes, config.scenario)
    if len(tracker.shapes) > 1:
        found = ", ".join(tracker.shapes)
        raise InputError(f"--network: expected one of a single sensor, where scans are followed, found {found}")
    check_shapes(tracker.shapes)
    if config.data_dir == STANDARD:
        return rows(name, shape, stop)
    if not config.data_dir.is_dir():
        raise InputError(f"--data-dir: expected a folder, found none: {config.data_dir}")
    return follow(config.data_dir, name, shape, stop)


def _step(tracker: Tracker, frame: Frame) -> np.ndarray | None:
    """Logits [J + 1, M]; None of a bad frame, which is said."""
    fault = frame.fault
    if not fault:
        if not frame.follows:
            tracker.restart()
        try:
            return tracker.step(frame.sensors)
        except InputError as error:
            fault = str(error)
    _say(f"skipped {frame.name if frame.name.isprintable() else shown(frame.name)}: {fault}")
    return None


def _header(config: Predict, tracker: Tracker) -> list[str]:
    ranks = range(1, config.top + 1)
    slots = (
        [f"slot{slot}_beam_index{rank}" for rank in ranks]
        + [f"slot{slot}_probability{rank}" for rank in ranks]
        + [f"slot{slot}_margin"]
        for slot in range(tracker.slots)
    )
    return ["frame", *(name for names in slots for name in names)]


def _cells(logits: np.ndarray, config: Predict) -> list[str]:
    """Of each slot the best beams, their probabilities, and the margin, of logits [J + 1, M]."""
    cells = []
    for beams, ranked in zip(
        *most_likely(logits.astype(np.float64) / config.temperature, logits.shape[-1]), strict=True
    ):
        numbers = [*ranked[: config.top], ranked[0] - ranked[1:2].sum()]
        cells += [*(beams[: config.top] + 1).astype(str), *(f"{number:.6g}" for number in numbers)]
    return cells


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[Callable[[Iterable[str]], None]]:
    """A function that writes a row of a CSV by one call of the system: whole or not, wherever the process ends."""
    try:
        with open(1, "wb", 0, closefd=False) if path is None else open(path, "xb", 0) as file:

            def write(cells: Iterable[str]) -> None:
                line = io.StringIO()
                csv.writer(line, lineterminator="\n").writerow(cells)
                left = line.getvalue().encode("utf-8", "surrogateescape")
                while left:  # a pipe may take a part
                    left = left[file.write(left) :]

            yield write
    except FileExistsError:
        raise InputError(f"--out: expected a new file, found {path}") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"--out: expected to write {path or 'standard output'}, found: {error.strerror}") from None


def _say(line: str) -> None:
    print(f"predict: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main("predict", Predict, run)
