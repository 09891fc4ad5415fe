"""Drives from prepared TFDS datasets of ours.

Of a dataset's metadata only names and numbers are taken: TFDS itself would import whatever module features.json names.
"""

import contextlib
import heapq
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from beamkd.base import Drives, InputError
from beamkd.data.deepsense.writer import ORIGIN
from beamkd.data.tfds.layout import PARTS, SIMULATED, VERSION, Array

NAMES = ("beamkd_street", "deepsense6g")
"""The datasets that can be read."""

INFO, FEATURES, METADATA = "dataset_info.json", "features.json", "metadata.json"

LARGEST_JSON = 2**20
"""Bytes."""

LARGEST_ARRAY = 2**24
"""Bytes that an array of one frame may take."""

TYPES = ("float32", "uint8")
"""Of arrays."""

NUMBERS = ("drive", "slot", "frame")
"""Features of a frame that are one number."""

PIECE_BYTES = 2**24
"""Of the frames that are read at a time, about."""


class Prepared(NamedTuple):
    """A prepared dataset.

    Attributes:
      name: of dataset, configuration and version.
      files: of each split, in order, with their numbers of frames.
      sensors: the array of each sensor, by name.
      power: the array of receive powers.
      simulated: whether beamkd made the data up.
    """

    name: str
    files: Mapping[str, Sequence[tuple[Path, int]]]
    sensors: Mapping[str, Array]
    power: Array
    simulated: bool

    @property
    def origin(self) -> str:
        """What is known of how the data came about."""
        return f"{self.name}, {ORIGIN}" if self.simulated else self.name

    @property
    def frames(self) -> int:
        """F, of all splits."""
        return sum(count for files in self.files.values() for _, count in files)


def read_tfds(folder: str | os.PathLike, sensors: Sequence[str] = ("lidar",), parts: Sequence[str] = PARTS) -> Drives:
    """Reads a dataset that `beamkd_street` or `deepsense6g` prepared.

    Args:
      folder: the folder of a version, or TFDS's `data_dir` with one prepared dataset of ours.
      sensors: names of the sensors to read; may be none.
      parts: splits to read.

    Returns:
      The drives in the order of the recording, which is that of the examples in each split. Of all splits, they are
      those of `simulate` or `read_deepsense` to the last bit.

    Raises:
      InputError: one line that names the file, what was expected and what was found.
    """
    pieces = list(tfds_pieces(open_tfds(folder), sensors, parts))
    return jax.device_put(jax.tree.map(lambda *arrays: np.concatenate(arrays), *pieces))


def open_tfds(folder: str | os.PathLike) -> Prepared:
    """What the metadata of a prepared dataset say; no frame is read.

    Raises:
      InputError: there is none, there are several, or its metadata are not as they were written.
    """
    folder = _version_folder(Path(folder))
    info, features = _json(folder / INFO), _json(folder / FEATURES)
    try:
        name = _name(info)
        files = {split["name"]: list(_files(folder, info["name"], split)) for split in info["splits"]}
        if set(files) != set(PARTS):
            raise InputError(f"expected splits {', '.join(PARTS)}, found {sorted(files)}")
        arrays = features["featuresDict"]["features"]
        sensors = {name: _array(value) for name, value in arrays["sensors"]["featuresDict"]["features"].items()}
        power, position = _array(arrays["power"]), _array(arrays["position"])
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}: expected metadata as beamkd writes them, found none of {error}") from None
    if (len(power.shape), power.dtype, position) != (1, "float32", Array((2,), "float32")):
        raise InputError(f"{folder}: expected power [beams] and position [2] of float32, found {power} and {position}")
    return Prepared(name, files, sensors, power, _json(folder / METADATA).get(SIMULATED) is True)


def tfds_pieces(
    prepared: Prepared, sensors: Sequence[str] = ("lidar",), parts: Sequence[str] = PARTS
) -> Iterator[Drives]:
    """The drives of `read_tfds` as NumPy arrays, some 16 MB at a time, as `store_drives` takes them."""
    for given, known in ((sensors, prepared.sensors), (parts, prepared.files)):
        if isinstance(given, str) or not set(given) <= set(known):
            raise InputError(f"{prepared.name}: expected names out of {sorted(known)}, found {given!r}")
    if not parts:
        raise InputError(f"{prepared.name}: expected a split or more, found none")
    arrays = {f"sensors/{name}": prepared.sensors[name] for name in sensors}
    arrays |= {"power": prepared.power, "position": Array((2,), "float32")}
    at_once = max(1, PIECE_BYTES // sum(array.bytes for array in arrays.values()))
    splits = [_frames(prepared.files[part], arrays, at_once) for part in parts]
    frames = heapq.merge(*splits, key=lambda frame: frame["frame"])  # splits deal out drives; the recording mixes them
    last = np.array([-1, -1, -1])
    while some := list(itertools.islice(frames, at_once)):
        found = {name: _stack([frame[name] for frame in some], array) for name, array in arrays.items()}
        numbers = np.array([[frame[name] for name in NUMBERS] for frame in some])  # int64, so that steps are exact
        _check(prepared.name, numbers, last, found["power"], complete=set(parts) == set(PARTS))
        last = numbers[-1]
        sensed = {name: found[f"sensors/{name}"] for name in sensors}
        drive, slot, _ = numbers.T.astype(np.int32)
        yield Drives(sensed, found["power"], found["position"], drive, slot)


def _version_folder(given: Path) -> Path:
    """The one folder in or at `given` that holds a prepared dataset of ours."""
    if not given.is_dir():
        found = "a file" if given.exists() else "nothing"
        raise InputError(f"{given}: expected a folder with a prepared TFDS dataset, found {found}")
    if (given / INFO).exists():
        return given
    below = ("*", "*/*", *(f"{name}/*/*" for name in NAMES))
    inside = given.resolve()
    found = sorted(
        path.parent
        for pattern in below
        for path in given.glob(f"{pattern}/{INFO}")
        if path.resolve().is_relative_to(inside) and not path.parent.name.startswith("incomplete")
    )
    if len(found) != 1:
        named = ": " + ", ".join(str(path.relative_to(given)) for path in found[:5]) if found else ""
        raise InputError(f"{given}: expected one prepared dataset out of {', '.join(NAMES)}, found {len(found)}{named}")
    return found[0]


def _json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of moderate size."""
    if not _plain(path) or path.stat().st_size > LARGEST_JSON:
        raise InputError(f"{path}: expected a file of at most {LARGEST_JSON:,} bytes, found none")
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, found {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _plain(path: Path) -> bool:
    """Whether there is a plain file, and not by a link to elsewhere."""
    return path.is_file() and path.resolve().parent == path.parent.resolve()


def _name(info: Mapping[str, Any]) -> str:
    """Name of dataset, configuration and version."""
    wanted = {"name": NAMES, "version": (VERSION,), "fileFormat": ("array_record",)}
    for key, values in wanted.items():
        if info.get(key) not in values:
            raise InputError(f"expected {key} {' or '.join(values)}, found {str(info.get(key))[:40]!r}")
    if not re.fullmatch(r"[\w.-]{1,80}", info["configName"]):
        raise InputError("expected a configuration's name, found other characters")
    return f"{info['name']}/{info['configName']}/{info['version']}"


def _files(folder: Path, name: str, split: Mapping[str, Any]) -> Iterator[tuple[Path, int]]:
    """Files of a split and how many frames each has."""
    counts = [int(count) for count in split["shardLengths"]]
    if split["name"] not in PARTS:
        raise InputError(f"expected splits {', '.join(PARTS)}, found {str(split['name'])[:40]!r}")
    for number, count in enumerate(counts):
        path = folder / f"{name}-{split['name']}.array_record-{number:05d}-of-{len(counts):05d}"
        if not _plain(path):
            raise InputError(f"expected a file {path.name}, found none")
        yield path, count


def _array(feature: Mapping[str, Any]) -> Array:
    """The array that a feature describes."""
    tensor = feature["tensor"]
    array = Array(tuple(int(size) for size in tensor["shape"]["dimensions"]), tensor["dtype"])
    if array.dtype not in TYPES or tensor["encoding"] != "bytes" or min(array.shape) < 1:
        raise InputError(f"expected arrays of {' or '.join(TYPES)} as bytes, found {str(tensor)[:80]}")
    if array.bytes > LARGEST_ARRAY:
        raise InputError(f"expected arrays of at most {LARGEST_ARRAY:,} bytes a frame, found {array.bytes:,}")
    return array


def _frames(files: Sequence[tuple[Path, int]], arrays: Mapping[str, Array], at_once: int) -> Iterator[dict[str, Any]]:
    """All frames of some files by name of their features: arrays as bytes, numbers as they are."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from tensorflow_datasets.proto import tf_example_pb2

    parse = tf_example_pb2.Example.FromString
    for path, count in files:
        with _as_written(path):
            source = ArrayRecordDataSource([str(path)])
            if len(source) != count:
                raise ValueError(f"{len(source)} of them, not {count}")
        for first in range(0, count, at_once):
            with _as_written(path):
                records = source.__getitems__(range(first, min(first + at_once, count)))
                frames = [_frame(parse(record).features.feature, arrays) for record in records]
            yield from frames


@contextlib.contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """What is wrong with a file's records is told with its name."""
    try:
        yield
    except Exception as error:  # RuntimeError of ArrayRecord, DecodeError of protobuf, and what they leave to Python
        said = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{path}: expected records as they were written, found {said[0][:200]}") from None


def _frame(features: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Any]:
    frame = {name: _only(features[name].bytes_list.value) for name in arrays}
    for name, array in arrays.items():
        if len(frame[name]) != array.bytes:
            raise ValueError(f"{name} of {len(frame[name])} bytes, not {array.bytes}")
    numbers = {name: _only(features[name].int64_list.value) for name in NUMBERS}
    if not all(-(2**31) <= number < 2**31 for number in numbers.values()):
        raise ValueError(f"numbers beyond 32 bits: {numbers}")
    return frame | numbers


def _only(values: Sequence[Any]) -> Any:
    (value,) = values
    return value


def _stack(values: list[bytes], array: Array) -> np.ndarray:
    """Bytes of some frames as one array."""
    return np.frombuffer(b"".join(values), array.dtype).reshape(len(values), *array.shape)


def _check(name: str, numbers: np.ndarray, last: np.ndarray, power: np.ndarray, complete: bool) -> None:
    """Whether powers can have been measured, and frames come in order after the last one, none missing if complete."""
    drives, slots, steps = np.diff(numbers, axis=0, prepend=last[None]).T
    wrong = (steps != 1) if complete else (steps < 1)
    wrong |= (drives == 0) & (slots < 1)
    if wrong.any():
        drive, slot, frame = numbers[wrong.argmax()]
        raise InputError(f"{name}: expected frames in order, found frame {frame}, slot {slot} of drive {drive}")
    bad = ~(np.isfinite(power) & (power >= 0)).all(-1)
    if bad.any():
        raise InputError(
            f"{name}: expected powers finite and not negative, found otherwise in frame {numbers[bad.argmax(), 2]}"
        )
