"""Weights that others have published, loaded into our modules."""

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import Array, InputError, Model
from beamkd.models.baselines import RadarLeNet
from beamkd.models.camera import CollaborativeStudent, LongTermStudent
from beamkd.models.lidar import GruTeacher
from beamkd.models.maps import EPSILON
from beamkd.models.npz import Layout, read_arrays

_Built = tuple[nn.Module, dict, dict[str, tuple[int, ...]]]
"""A module, its weights, and the shape of one frame of what it takes, by name."""

_MASK = (224, 224)
"""Of the masks that the camera networks were trained with."""

_VARIANCE = "running_var"


def _layer(name: str, *axes: int | str, bias: bool = True) -> Layout:
    """Arrays of a linear layer, axes [out, in], or of a convolution, [out, in, H, W]."""
    return {f"{name}.weight": axes} | ({f"{name}.bias": axes[:1]} if bias else {})


def _batch_norm(name: str, channels: int) -> Layout:
    return {f"{name}.{kind}": (channels,) for kind in ("weight", "bias", "running_mean", _VARIANCE)}


def _recurrence(name: str, hidden: int | str, into: int | str) -> Layout:
    gates = "3H" if hidden == "H" else 3 * hidden
    weights = {f"{name}.weight_ih_l0": (gates, into), f"{name}.weight_hh_l0": (gates, hidden)}
    return weights | {f"{name}.bias_{kind}_l0": (gates,) for kind in ("ih", "hh")}


def _separable(name: str, into: int, out: int) -> Layout:
    depthwise = _layer(f"{name}.0", into, 1, 3, 3, bias=False) | _batch_norm(f"{name}.1", into)
    return depthwise | _layer(f"{name}.3", out, into, 1, 1, bias=False) | _batch_norm(f"{name}.4", out)


# R rays, E embedding, H state, M beams
_GRU = _layer("embed", "E", "R") | _recurrence("gru", "H", "E") | _layer("fc", "M", "H")

_LENET = (
    _layer("conv1", 8, 1, 3, 3)
    | _layer("conv2", 16, 8, 3, 3)
    | _layer("conv3", 8, 16, 3, 3)
    | _layer("conv4", 4, 8, 3, 3)
    | _layer("conv5", 2, 4, 3, 3)
    | _layer("fc1", 256, 2 * 32 * 8)
    | _layer("fc2", 128, 256)
    | _layer("fc3", "M", 128)
)

_AFTER_CODES = (
    {"layer_norm.weight": (64,), "layer_norm.bias": (64,)}
    | _recurrence("GRU", 64, 64)
    | _layer("classifier.0", 64, 64)
    | _layer("classifier.3", "M", 64)
)

_LONG_TERM = (
    _layer("image_cnn_layers.0", 18, 1, 3, 3, bias=False)
    | _batch_norm("image_cnn_layers.1", 18)
    | _separable("image_cnn_layers.4", 18, 36)
    | _separable("image_cnn_layers.6", 36, 72)
    | _separable("image_cnn_layers.8", 72, 144)
    | _layer("channel_attention.1", 72, 144, 1, 1)
    | _layer("channel_attention.3", 144, 72, 1, 1)
    | _layer("spatial_attention.0", 1, 144, 7, 7)
    | _layer("fusion_layer.0", 64, 144)
    | _layer("fusion_layer.2", 64, 64)
    | {"multihead_attention.in_proj_weight": (3 * 64, 64), "multihead_attention.in_proj_bias": (3 * 64,)}
    | _layer("multihead_attention.out_proj", 64, 64)
    | _AFTER_CODES
)

_COLLABORATIVE = (
    _layer("cnn_layers.0", 32, 1, 7, 7)
    | _batch_norm("cnn_layers.1", 32)
    | _layer("cnn_layers.4", 64, 32, 5, 5)
    | _batch_norm("cnn_layers.5", 64)
    | _layer("cnn_layers.8", 128, 64, 3, 3)
    | _batch_norm("cnn_layers.9", 128)
    | _layer("fc_layer.0", 64, 128)
    | _layer("fc_layer.3", 64, 64)
    | _AFTER_CODES
)


def load_published(path: str | Path) -> tuple[nn.Module, dict]:
    """Load a published beam tracker from an `.npz` of its checkpoint's arrays; which one, their names tell.

    - The GRU on LiDAR scans of Jiang et al. (IEEE WCL 2022): arrays `embed`, `gru` and `fc`, gates in the order reset,
      update, new. Its output k stands for beam k + 1.
    - The network on range-angle maps of Demirhan and Alkhateeb (WCNC 2022): arrays `conv1` to `conv5`, `fc1` to `fc3`.
      Its output k stands for beam k - 1.
    - The long-term students on motion masks of arXiv 2509.11419: arrays `image_cnn_layers`, `channel_attention`,
      `spatial_attention`, `fusion_layer`, `layer_norm`, `GRU`, `multihead_attention`, `classifier`. Their running
      statistics become fixed scales. Output k stands for beam k.
    - The collaborative students on motion masks of arXiv 2603.16116: `cnn_layers`, `fc_layer`, `layer_norm`, `GRU`,
      `classifier`; the rest likewise.

    The authors of the first two counted the labels otherwise, and this is undone here: the read-out is moved by one
    beam, so that logit k stands for beam k like everywhere in beamkd. The beam that is left over takes the output that
    the labels never reach.

    Args:
      path: file with these arrays, matrices as [out, in].

    Returns:
      The module and its variables, for `module.apply(variables, inputs)`.

    Raises:
      InputError: the file is missing, not an .npz of plain arrays, or too large, or an array is missing, misshapen or
        not finite, or a variance is negative.
    """
    model = published_model(path, frames=1)
    return model.module, model.params


def published_model(path: str | Path, frames: int) -> Model:
    """A published beam tracker with what it takes: 'lidar', 'radar' or 'masks'.

    Args:
      path: as of `load_published`.
      frames: how many of the last frames it is to see, which its arrays do not tell.

    Returns:
      The model, with the weights of one member.

    Raises:
      InputError: as of `load_published`.
    """
    path = Path(path)
    layout, sizes, arrays = read_arrays(path, [layout for layout, _ in _NETWORKS])
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()}
    for name, value in arrays.items():
        if name.endswith(_VARIANCE) and (value < 0).any():
            raise InputError(f"{path}: expected variances in {name}, found {value.min():.3g}")
    build = next(build for known, build in _NETWORKS if known is layout)
    module, params, taken = build(sizes, arrays)
    return Model(module, {"params": params}, {name: (frames, *shape) for name, shape in taken.items()})


def _gru(sizes: Mapping[str, int], arrays: Mapping[str, Array]) -> _Built:
    module = GruTeacher(embed=sizes["E"], hidden=sizes["H"], dropout=0.0, beams=sizes["M"])
    tail = {"Gru_0": _recurrent(arrays, "gru"), "Linear_0": _moved(_linear(arrays, "fc"), 1)}
    return module, {"Linear_0": _linear(arrays, "embed"), "_Tail_0": tail}, {"lidar": (sizes["R"],)}


def _lenet(sizes: Mapping[str, int], arrays: Mapping[str, Array]) -> _Built:
    convolutions = {f"Conv2d_{number}": _convolution(arrays, f"conv{number + 1}") for number in range(5)}
    first = _linear(arrays, "fc1")  # of channels, rows, columns; ours stand as rows, columns, channels
    kernel = first["kernel"].reshape(2, 32, 8, -1).transpose(1, 2, 0, 3).reshape(first["kernel"].shape)
    layers = {
        "Linear_0": {**first, "kernel": kernel},
        "Linear_1": _linear(arrays, "fc2"),
        "Linear_2": _moved(_linear(arrays, "fc3"), -1),
    }
    return RadarLeNet(beams=sizes["M"]), {"_Convolutions_0": convolutions, **layers}, {"radar": (256, 64)}


def _long_term(sizes: Mapping[str, int], arrays: Mapping[str, Array]) -> _Built:
    encoder = {
        "Conv2d_0": _convolution(arrays, "image_cnn_layers.0"),
        "Scale_0": _fixed(arrays, "image_cnn_layers.1"),
    }
    for number, place in enumerate((4, 6, 8)):
        layer = f"image_cnn_layers.{place}"
        encoder |= {
            f"Depthwise_{number}": {"kernel": arrays[f"{layer}.0.weight"][:, 0].transpose(1, 2, 0)},
            f"Scale_{2 * number + 1}": _fixed(arrays, f"{layer}.1"),
            f"Linear_{number}": _pointwise(arrays, f"{layer}.3"),
            f"Scale_{2 * number + 2}": _fixed(arrays, f"{layer}.4"),
        }
    encoder |= {
        "Linear_3": _pointwise(arrays, "channel_attention.1"),
        "Linear_4": _pointwise(arrays, "channel_attention.3"),
        "Conv2d_1": _convolution(arrays, "spatial_attention.0"),
    }
    kernels = jnp.split(arrays["multihead_attention.in_proj_weight"].T, 3, axis=1)
    biases = jnp.split(arrays["multihead_attention.in_proj_bias"], 3)
    attention = {
        f"Linear_{number}": {"kernel": kernel, "bias": bias}
        for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True))
    }
    attention["Linear_3"] = _linear(arrays, "multihead_attention.out_proj")
    params = {
        "_Separable_0": encoder,
        "Attention_0": attention,
        **_after_masks(arrays, "fusion_layer.0", "fusion_layer.2"),
    }
    return LongTermStudent(groups=0, beams=sizes["M"]), params, {"masks": _MASK}


def _collaborative(sizes: Mapping[str, int], arrays: Mapping[str, Array]) -> _Built:
    encoder = {}
    for number in range(3):
        encoder |= {
            f"Conv2d_{number}": _convolution(arrays, f"cnn_layers.{4 * number}"),
            f"Scale_{number}": _fixed(arrays, f"cnn_layers.{4 * number + 1}"),
        }
    params = {"_Plain_0": encoder, **_after_masks(arrays, "fc_layer.0", "fc_layer.3")}
    return CollaborativeStudent(groups=0, beams=sizes["M"]), params, {"masks": _MASK}


def _after_masks(arrays: Mapping[str, Array], *layers: str) -> dict[str, dict]:
    """What the camera networks have behind their convolutions, by the names of the two layers on each mask."""
    linear = (*layers, "classifier.0", "classifier.3")
    return {
        **{f"Linear_{number}": _linear(arrays, name) for number, name in enumerate(linear)},
        "LayerNorm_0": {"scale": arrays["layer_norm.weight"], "bias": arrays["layer_norm.bias"]},
        "Gru_0": _recurrent(arrays, "GRU"),
    }


def _recurrent(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    return {
        "input_kernel": arrays[f"{name}.weight_ih_l0"].T,
        "input_bias": arrays[f"{name}.bias_ih_l0"],
        "state_kernel": arrays[f"{name}.weight_hh_l0"].T,
        "state_bias": arrays[f"{name}.bias_hh_l0"],
    }


def _linear(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    return {"kernel": arrays[f"{name}.weight"].T, "bias": arrays[f"{name}.bias"]}


def _convolution(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    """A kernel [out, in, H, W] as [H, W, in, out], and its bias if it has one."""
    kernel = {"kernel": arrays[f"{name}.weight"].transpose(2, 3, 1, 0)}
    return kernel | ({"bias": arrays[f"{name}.bias"]} if f"{name}.bias" in arrays else {})


def _pointwise(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    """A convolution of 1 x 1 as a linear layer."""
    layer = _convolution(arrays, name)
    return layer | {"kernel": layer["kernel"][0, 0]}


def _fixed(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    """A batch norm with its running statistics as a scale and a shift."""
    scale = arrays[f"{name}.weight"] / jnp.sqrt(arrays[f"{name}.running_var"] + EPSILON)
    return {"scale": scale, "shift": arrays[f"{name}.bias"] - arrays[f"{name}.running_mean"] * scale}


def _moved(read_out: dict[str, Array], beams: int) -> dict[str, Array]:
    """A read-out whose output k becomes that of beam k + `beams`."""
    return {name: jnp.roll(leaf, beams, axis=-1) for name, leaf in read_out.items()}


_NETWORKS = ((_GRU, _gru), (_LENET, _lenet), (_LONG_TERM, _long_term), (_COLLABORATIVE, _collaborative))
