"""Weights that others have published, loaded into our modules."""

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import Array
from beamkd.models.baselines import RadarLeNet
from beamkd.models.lidar import GruTeacher
from beamkd.models.npz import read_arrays

_GRU = {  # R rays, E embedding, H state, M beams
    "embed.weight": ("E", "R"),
    "embed.bias": ("E",),
    "gru.weight_ih_l0": ("3H", "E"),
    "gru.weight_hh_l0": ("3H", "H"),
    "gru.bias_ih_l0": ("3H",),
    "gru.bias_hh_l0": ("3H",),
    "fc.weight": ("M", "H"),
    "fc.bias": ("M",),
}

_CHANNELS, _POOLED = (1, 8, 16, 8, 4, 2), (32, 8)
_HIDDEN = (256, 128)
_LENET = {
    **{
        f"conv{number}.{kind}": (out, into, 3, 3) if kind == "weight" else (out,)
        for number, (into, out) in enumerate(zip(_CHANNELS[:-1], _CHANNELS[1:], strict=True), 1)
        for kind in ("weight", "bias")
    },
    "fc1.weight": (_HIDDEN[0], _CHANNELS[-1] * _POOLED[0] * _POOLED[1]),
    "fc1.bias": (_HIDDEN[0],),
    "fc2.weight": (_HIDDEN[1], _HIDDEN[0]),
    "fc2.bias": (_HIDDEN[1],),
    "fc3.weight": ("M", _HIDDEN[1]),
    "fc3.bias": ("M",),
}


def load_published(path: str | Path) -> tuple[nn.Module, dict]:
    """Load a published beam tracker from an `.npz` of its checkpoint's arrays; which one, their names tell.

    - The GRU on LiDAR scans of Jiang et al. (IEEE WCL 2022): arrays `embed`, `gru` and `fc`, gates in the order reset,
      update, new. Its output k stands for beam k + 1.
    - The network on range-angle maps of Demirhan and Alkhateeb (WCNC 2022): arrays `conv1` to `conv5`, `fc1` to `fc3`.
      Its output k stands for beam k - 1.

    Their authors counted the labels otherwise, and this is undone here: the read-out is moved by one beam, so that
    logit k stands for beam k like everywhere in beamkd. The beam that is left over takes the output that the labels
    never reach.

    Args:
      path: file with these arrays, matrices as [out, in].

    Returns:
      The module and its variables, for `module.apply(variables, inputs)`.

    Raises:
      InputError: the file is missing, not an .npz of plain arrays, or too large, or an array is missing, misshapen or
        not finite.
    """
    layout, sizes, arrays = read_arrays(Path(path), (_GRU, _LENET))
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()}
    module, params = _gru(sizes, arrays) if layout is _GRU else _lenet(sizes, arrays)
    return module, {"params": params}


def _gru(sizes: Mapping[str, int], arrays: Mapping[str, Array]) -> tuple[GruTeacher, dict]:
    gru = {
        "input_kernel": arrays["gru.weight_ih_l0"].T,
        "input_bias": arrays["gru.bias_ih_l0"],
        "state_kernel": arrays["gru.weight_hh_l0"].T,
        "state_bias": arrays["gru.bias_hh_l0"],
    }
    module = GruTeacher(embed=sizes["E"], hidden=sizes["H"], dropout=0.0, beams=sizes["M"])
    read_out = _moved(_linear(arrays, "fc"), 1)
    return module, {"Linear_0": _linear(arrays, "embed"), "_Tail_0": {"Gru_0": gru, "Linear_0": read_out}}


def _lenet(sizes: Mapping[str, int], arrays: Mapping[str, Array]) -> tuple[RadarLeNet, dict]:
    convolutions = {
        f"Conv2d_{number}": {"Linear_0": _convolution(arrays, f"conv{number + 1}")}
        for number in range(len(_CHANNELS) - 1)
    }
    first = _linear(arrays, "fc1")  # of channels, rows, columns; ours stand as rows, columns, channels
    kernel = first["kernel"].reshape(_CHANNELS[-1], *_POOLED, -1).transpose(1, 2, 0, 3).reshape(first["kernel"].shape)
    layers = {
        "Linear_0": {**first, "kernel": kernel},
        "Linear_1": _linear(arrays, "fc2"),
        "Linear_2": _moved(_linear(arrays, "fc3"), -1),
    }
    return RadarLeNet(beams=sizes["M"]), convolutions | layers


def _linear(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    return {"kernel": arrays[f"{name}.weight"].T, "bias": arrays[f"{name}.bias"]}


def _convolution(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    """Kernel [out, in, H, W] as that of `Conv2d`, whose inputs are channels within columns within rows."""
    weight = arrays[f"{name}.weight"]
    return {"kernel": weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)), "bias": arrays[f"{name}.bias"]}


def _moved(read_out: dict[str, Array], beams: int) -> dict[str, Array]:
    """A read-out whose output k becomes that of beam k + `beams`."""
    return {name: jnp.roll(leaf, beams, axis=-1) for name, leaf in read_out.items()}
