"""Networks in files: weights as safetensors, with what is needed to rebuild the module."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from beamkd.base import InputError, Model, as_taken
from beamkd.models.baselines import NearestNeighbours, OccupancyCnn, PositionNetwork, PositionTable, RadarLeNet
from beamkd.models.camera import CollaborativeStudent, CollaborativeTeacher, LongTermStudent, LongTermTeacher
from beamkd.models.generator import Generator
from beamkd.models.lidar import CnnGruTeacher, GruStudent, GruTeacher, PatchStudent
from beamkd.models.scene import SceneGenerator
from beamkd.models.tracker import SensorStudent, SensorTeacher

_BASELINES = (NearestNeighbours, OccupancyCnn, PositionNetwork, PositionTable, RadarLeNet)
_CAMERA = (CollaborativeStudent, CollaborativeTeacher, LongTermStudent, LongTermTeacher)
_TRACKERS = (CnnGruTeacher, GruStudent, GruTeacher, PatchStudent, SensorStudent, SensorTeacher)
MODULES = {module.__name__: module for module in (*_BASELINES, *_CAMERA, *_TRACKERS, Generator, SceneGenerator)}
"""What can be saved, by the name in a file."""

ENTRY = "beamkd"
"""Of a file's metadata: JSON with the module's name, its fields, and the shapes of its inputs by name."""

LARGEST_FILE = 64 * 2**20
"""Bytes of a file. The largest of our networks, the published generator, has 1.1 MB."""

LARGEST_SIZE = 2**20
"""Of an integer among a module's fields, and of an input's axis."""

MOST_INPUTS, MOST_AXES = 8, 4
"""Inputs of a network, and axes of each."""


def save_network(path: str | os.PathLike, model: Model) -> None:
    """Write a network to a file, whole or not at all.

    Args:
      path: the file; by custom it ends in `.safetensors`.
      model: with weights of one member, float32.

    Raises:
      InputError: the module is none of `MODULES`, or the file cannot be written.
    """
    path, name = Path(path), type(model.module).__name__
    if MODULES.get(name) is not type(model.module):
        raise InputError(f"{path}: expected one of {', '.join(MODULES)} to save, found {name}")
    about = {"module": name, "fields": _fields(model.module), "inputs": model.inputs}
    weights = {key: np.ascontiguousarray(leaf) for key, leaf in flatten_dict(model.params, sep=".").items()}
    spare = path.with_name(path.name + ".writing")
    try:
        spare.write_bytes(safetensors.numpy.save(weights, {ENTRY: json.dumps(about)}))
        os.replace(spare, path)
    except OSError as error:
        raise InputError(f"{path}: expected a file to write to, found: {error.strerror}") from error


def load_network(path: str | os.PathLike) -> Model:
    """Read a network that `save_network` wrote. Nothing is unpickled.

    Args:
      path: the file. It may come from elsewhere: sizes, names and shapes are checked before weights are read.

    Returns:
      The network.

    Raises:
      InputError: the file is missing, too large, none of a network, or its weights do not fit or are not finite.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: expected a file with a network, found none ({error.strerror})") from None
    if not path.is_file() or size > LARGEST_FILE:
        raise InputError(f"{path}: expected a file of at most {LARGEST_FILE:,} bytes, found {size:,} or no file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            module, inputs = _rebuilt(file.metadata() or {})
            _check_shapes(file, module, inputs)
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, for it is no mapping
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: expected a network of beamkd, found {' '.join(str(error).split())[:200]}") from None
    for key, leaf in weights.items():
        if not np.isfinite(leaf).all():
            raise InputError(f"{path}: expected finite numbers in {key}, found NaN or infinity")
    return Model(module, unflatten_dict(jax.tree.map(jnp.asarray, weights), sep="."), inputs)


def _fields(module: nn.Module) -> dict[str, Any]:
    """A module's own fields by name, without Flax's."""
    names = [field.name for field in dataclasses.fields(module) if field.name not in ("parent", "name")]
    return {name: getattr(module, name) for name in names}


def _rebuilt(metadata: dict[str, str]) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
    """The module that metadata describe, and the shapes of its inputs. Raises `ValueError` for any other metadata."""
    about = json.loads(metadata.get(ENTRY, "null"))
    if not isinstance(about, dict) or about.keys() != {"module", "fields", "inputs"}:
        raise ValueError(f"no {ENTRY!r} entry with module, fields and inputs")
    name, fields, inputs = about["module"], about["fields"], about["inputs"]
    if not isinstance(name, str) or name not in MODULES:
        raise ValueError(f"the module {name!r:.80}, none of {', '.join(MODULES)}")
    usual = _fields(MODULES[name]())
    if not isinstance(fields, dict) or not fields.keys() <= usual.keys():  # one that was added since has its default
        raise ValueError(f"fields other than {', '.join(usual)}")
    fields = {field: tuple(value) if isinstance(value, list) else value for field, value in fields.items()}
    for field, value in fields.items():
        if not _like(value, usual[field]):
            raise ValueError(f"{field} {value!r:.80}")
    if not isinstance(inputs, dict) or not 0 < len(inputs) <= MOST_INPUTS or not all(map(_is_shape, inputs.values())):
        raise ValueError(f"inputs of shape {inputs!r:.80}")
    return MODULES[name](**fields), {name: tuple(shape) for name, shape in inputs.items()}


def _like(value: Any, usual: Any) -> bool:
    """Whether a value is of the type of a usual one, and of no absurd size."""
    if isinstance(usual, tuple) and isinstance(usual[0], str):  # names of sensors, as many as there are
        return isinstance(value, tuple) and 0 < len(value) <= MOST_INPUTS and all(type(name) is str for name in value)
    if isinstance(usual, tuple):
        return isinstance(value, tuple) and len(value) == len(usual) and all(map(_like, value, usual))
    if isinstance(usual, int):
        return type(value) is int and 0 <= value <= LARGEST_SIZE
    return type(value) in (int, float) and math.isfinite(value)


def _is_shape(axes: Any) -> bool:
    return isinstance(axes, list) and 0 < len(axes) <= MOST_AXES and all(_like(axis, 1) and axis for axis in axes)


def _check_shapes(file: Any, module: nn.Module, inputs: dict[str, tuple[int, ...]]) -> None:
    """Whether a file's weights are those of the module; raises `ValueError` where they are not."""
    examples = {name: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for name, shape in inputs.items()}
    try:
        shapes = jax.eval_shape(module.init, jax.random.key(0), as_taken(examples))
    except Exception as error:  # sizes that do not fit together fail in the module, with errors of many kinds
        raise ValueError(f"a {type(module).__name__} that cannot be built ({error})") from error
    expected = {key: list(leaf.shape) for key, leaf in flatten_dict(shapes, sep=".").items()}
    found = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118, for it is no mapping
    if found.keys() != expected.keys():
        raise ValueError(f"weights other than {', '.join(expected)}")
    for key, shape in expected.items():
        if found[key].get_shape() != shape or found[key].get_dtype() != "F32":
            raise ValueError(f"{key} of shape {found[key].get_shape()}, {found[key].get_dtype()}, in place of {shape}")
