"""Weights that others have published, loaded into our modules."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from beamkd.base import InputError
from beamkd.models.lidar import GruTeacher

_LAYOUT = {  # name: axes; R rays, E embedding, H state, M beams
    "embed.weight": ("E", "R"),
    "embed.bias": ("E",),
    "gru.weight_ih_l0": ("3H", "E"),
    "gru.weight_hh_l0": ("3H", "H"),
    "gru.bias_ih_l0": ("3H",),
    "gru.bias_hh_l0": ("3H",),
    "fc.weight": ("M", "H"),
    "fc.bias": ("M",),
}


def load_published(path: str | Path) -> tuple[GruTeacher, dict]:
    """Load the GRU beam tracker of Jiang et al. (IEEE WCL 2022) from an `.npz` of its checkpoint's arrays.

    Its output k stands for beam k + 1, because its authors counted the labels from 1. This is undone here: the read-out
    is moved by one beam, so that logit k stands for beam k like everywhere in beamkd. Beam 0 takes the output that its
    authors' labels never reach.

    Args:
      path: file with the arrays `embed`, `gru` and `fc`, matrices as [out, in], gates in the order reset, update, new.

    Returns:
      The module and its variables, for `module.apply(variables, scans)`.

    Raises:
      InputError: the file is missing, not an .npz of plain arrays, or an array is missing, misshapen or not finite.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    sizes = _check_layout(path, arrays)
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()}
    read_out = {
        "kernel": jnp.roll(arrays["fc.weight"].T, 1, axis=1),
        "bias": jnp.roll(arrays["fc.bias"], 1),
    }
    gru = {
        "input_kernel": arrays["gru.weight_ih_l0"].T,
        "input_bias": arrays["gru.bias_ih_l0"],
        "state_kernel": arrays["gru.weight_hh_l0"].T,
        "state_bias": arrays["gru.bias_hh_l0"],
    }
    params = {
        "Linear_0": {"kernel": arrays["embed.weight"].T, "bias": arrays["embed.bias"]},
        "_Tail_0": {"Gru_0": gru, "Linear_0": read_out},
    }
    module = GruTeacher(embed=sizes["E"], hidden=sizes["H"], dropout=0.0, beams=sizes["M"])
    return module, {"params": params}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{path}: expected an .npz file with a published network, found no file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in _LAYOUT if name in archive.files}
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many kinds
        raise InputError(f"{path}: expected an .npz file of plain arrays, found {_one_line(error)}") from error


def _check_layout(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """Sizes by axis; raises where an array is missing or disagrees with those before it."""
    sizes: dict[str, int] = {}
    for name, axes in _LAYOUT.items():
        if name not in arrays:
            raise InputError(f"{path}: expected arrays {', '.join(_LAYOUT)}, found none named {name}")
        array = arrays[name]
        numeric = np.issubdtype(array.dtype, np.floating)
        if array.ndim == len(axes):
            for axis, size in zip(axes, array.shape, strict=True):
                if axis != "3H":
                    sizes.setdefault(axis, size)
                elif size % 3 == 0:
                    sizes.setdefault("H", size // 3)
        expected = tuple(3 * sizes["H"] if axis == "3H" and "H" in sizes else sizes.get(axis, axis) for axis in axes)
        if array.shape != expected or not numeric:
            raise InputError(f"{path}: expected {name} of shape {expected}, float, found {array.shape}, {array.dtype}")
        if not (np.abs(array) <= np.finfo(np.float32).max).all():
            raise InputError(f"{path}: expected finite numbers in {name}, found NaN or infinity")
    return sizes


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
