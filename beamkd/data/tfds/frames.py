"""What our TFDS datasets share: an example is a frame, splits are by drive.

Frames have one shape, however long their drive is and however large its sensors; a window's frames are read at random.
Whole splits never share a drive; slices such as 'train[:10%]' may cut through one.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from beamkd.base import Drives, InputError
from beamkd.data.tfds.layout import PARTS, RELEASES, VERSION, Array
from beamkd.data.windows import FRACTIONS
from beamkd.sim import RAYS

SHARD_BYTES = 2**26
"""Of the frames in one file, about. TFDS keeps these in memory until the file is written."""


Frames = Iterator[tuple[int, dict[str, Any]]]
"""Number of a frame, and the frame as TFDS takes it."""

File = Callable[[], Frames]
"""What gives the frames of one file."""

SENSORS = {
    "lidar": Array((len(RAYS),), "float32", "Range of each LiDAR ray, m; 0 where nothing moves."),
    "radar": Array((256, 64), "float32", "Range-angle map of what moves."),
    "doppler": Array((128, 64), "float32", "Doppler-angle map of what moves."),
    "camera": Array((224, 224), "uint8", "Gray image."),
    "masks": Array((224, 28), "uint8", "What moved since the frame before, eight pixels a byte."),
    "gps": Array((2,), "float32", "Position that a receiver in the car reports, m, along and across as `position`."),
}
"""What is known of the sensors of `Drives`, by name. A further sensor is one more line."""


def known(sensors: Iterable[str]) -> dict[str, Array]:
    """Some of `SENSORS`.

    Raises:
      InputError: a name that is not there, or none.
    """
    if isinstance(sensors, str) or not (names := tuple(sensors)) or not set(names) <= set(SENSORS):
        raise InputError(f"sensors: expected names out of {sorted(SENSORS)}, found {sensors!r}")
    return {name: SENSORS[name] for name in names}


def frame_features(sensors: Mapping[str, Array], beams: int) -> tfds.features.FeaturesDict:
    """Features of a frame with these sensors and M beams."""

    def array(one: Array) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=one.shape, dtype=np.dtype(one.dtype), encoding="bytes", doc=one.said)

    def number(said: str) -> tfds.features.Scalar:
        return tfds.features.Scalar(np.int32, doc=said)

    place = "m from the base station: along broadside, and to the left of it, along the road; NaN: unknown."
    return tfds.features.FeaturesDict(
        {
            "sensors": tfds.features.FeaturesDict({name: array(one) for name, one in sensors.items()}),
            "power": array(Array((beams,), "float32", "Receive power of each beam, linear, in a unit of its own.")),
            "position": array(Array((2,), "float32", place)),
            "drive": number("Number of the drive that the frame belongs to."),
            "slot": number("Time within the drive in slots, from 0; a gap where a frame is missing."),
            "frame": number("Number of the frame in the whole recording, from 0; all splits together have each."),
        }
    )


def part_of_drives(drives: Iterable[int]) -> dict[int, str]:
    """The split of each drive, by number: dealt out in order of the numbers, as `split_drives` does 'inorder'.

    Raises:
      InputError: a split would have no drive.
    """
    numbers = np.unique(list(drives))
    ends = np.cumsum([int(share * len(numbers) + 1e-6) for share in FRACTIONS["inorder"][:2]])
    parts = np.split(numbers, ends)
    if not all(map(len, parts)):
        raise InputError(f"drives: expected 7 or more, some for each of {', '.join(PARTS)}, found {len(numbers)}")
    return {int(drive): part for part, own in zip(PARTS, parts, strict=True) for drive in own}


class Recording(NamedTuple):
    """What a builder writes.

    Attributes:
      part: of each drive, by number, in the order in which the drives were recorded.
      longest: frames of the longest drive, or a bound.
      pieces: (number of each frame in the recording, frames) piece by piece; a part's frames in the order in which
        they were recorded, part by part.
    """

    part: Mapping[int, str]
    longest: int
    pieces: Iterable[tuple[np.ndarray, Drives]]


class FrameBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes frames file by file as they come, in bounded memory.

    TFDS's builder of single examples would keep a gigabyte of them, and then need TensorFlow and memory for all.
    """

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = RELEASES
    code_path = None
    """Where TFDS would look for checksums of downloads, by means of a package that it does not declare."""

    def __init__(self, *, file_format: str | None = "array_record", **options: Any):
        super().__init__(file_format=file_format, **options)

    def _recording(self, dl_manager: tfds.download.DownloadManager) -> Recording:
        raise NotImplementedError

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list[File]]:
        return shards(self._recording(dl_manager), known(self.builder_config.sensors))


def shards(recording: Recording, sensors: Mapping[str, Array]) -> dict[str, list[File]]:
    """For each part its files, in order, as functions that give the frames; to be called one after another."""
    most = max(1, SHARD_BYTES // (recording.longest * sum(array.bytes for array in sensors.values())))
    owner, files = {}, {part: [] for part in PARTS}
    frames = itertools.groupby(_frames(recording.pieces, sensors), lambda pair: owner[pair[1]["drive"]])

    def file(part: str, number: int) -> Frames:
        found, own = next(frames, (None, ()))
        if found != (part, number):
            raise InputError(f"frames: expected those of file {number} of {part}, found {found}; write them in order")
        return own

    for part in PARTS:
        drives = [drive for drive, its in recording.part.items() if its == part]
        for number, first in enumerate(range(0, len(drives), most)):
            owner |= dict.fromkeys(drives[first : first + most], (part, number))
            files[part].append(lambda part=part, number=number: file(part, number))
    return files


def _frames(pieces: Iterable[tuple[np.ndarray, Drives]], sensors: Mapping[str, Array]) -> Frames:
    for numbers, drives in pieces:
        sensed = {name: np.asarray(drives.sensors[name]) for name in sensors}
        power, position = np.asarray(drives.power), np.asarray(drives.position)
        for row, (number, drive, slot) in enumerate(
            zip(numbers.tolist(), np.asarray(drives.drive).tolist(), np.asarray(drives.slot).tolist(), strict=True)
        ):
            yield (
                number,
                {
                    "sensors": {name: frames[row] for name, frames in sensed.items()},
                    "power": power[row],
                    "position": position[row],
                    "drive": drive,
                    "slot": slot,
                    "frame": number,
                },
            )
