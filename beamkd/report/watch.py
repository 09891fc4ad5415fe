"""A page that plays test drives: street, powers of the beams, sensors, and what networks say, from one file."""

import base64
import hashlib
import json
import zipfile
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from beamkd.base import InputError
from beamkd.report.datafree_figures import METHODS
from beamkd.report.results import SENSORS, data_source
from beamkd.sim import RAYS
from beamkd.sim.radar import TESTBED

DRIVES = {
    "observed": "",
    "slot_seconds": "",
    "drive": "F",
    "slot": "F",
    "position": "F2",
    "power": "FM",
    "azimuth": "M",
}
SAID = {"networks": "N", "beams": "NFSK", "probabilities": "NFSK"}
"""What `watch.npz` has (`experiments.common.watch`), and its axes: digits are sizes, equal letters equal sizes."""

MORE = {"lidar": "FR", "gps": "F2", "masks": "FHW", "radar": "FAB", "doppler": "FCD", "metres": ""}
"""What it may have."""

BYTES = {"masks", "radar", "doppler"}
"""Sensors whose numbers are bytes already."""

EXPERIMENTS = ("datafree", "multimodal", "longterm")
"""Those that leave drives to watch."""

FAINTEST = 655.35
"""dB under the best beam: the most that the page can say, of a beam without power, too."""


def write(folder: Path, results: dict[str, Any]) -> None:
    """Write `watch.html` of the run in `folder`.

    Raises:
      InputError: the folder lacks the drives, or they cannot be read.
    """
    arrays = read_drives(folder / "watch.npz", results["experiment"])
    labels = METHODS | results.get("labels", {})
    names = [labels.get(str(name), str(name)) for name in arrays["networks"]]
    names = [name[:1].upper() + name[1:] for name in names]
    (folder / "watch.html").write_text(page(arrays, names, f"Data: {data_source(results)}"), encoding="utf-8")


def read_drives(path: Path, experiment: str = "datafree") -> dict[str, np.ndarray]:
    """The drives that a run of an experiment kept, found to be what they should be.

    Raises:
      InputError: there are none, or they are damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        made = f"python -m experiments.{experiment if experiment in EXPERIMENTS else EXPERIMENTS[0]} writes them"
        raise InputError(f"{path}: expected the drives of a run, found no file; {made}") from None
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected the drives of a run, found {' '.join(str(error).split())}") from None
    sizes = {"R": len(RAYS)}
    for name, axes in (DRIVES | SAID | {name: axes for name, axes in MORE.items() if name in arrays}).items():
        _check(path, name, arrays.get(name), axes, sizes)
    if arrays["beams"].max() >= sizes["M"]:
        raise InputError(f"{path}: beams: expected less than {sizes['M']}, found {arrays['beams'].max()}")
    if not 0 <= arrays["probabilities"].min() <= arrays["probabilities"].max() <= 1:
        raise InputError(f"{path}: probabilities: expected 0 to 1, found others")
    if "radar" in arrays and "metres" not in arrays:
        raise InputError(f"{path}: metres: expected them with radar, found none")
    return arrays


def _check(path: Path, name: str, array: np.ndarray | None, axes: str, sizes: dict[str, int]) -> None:
    """Whether an array has its axes and finite numbers, or words; sizes that are new become known."""
    if array is None:
        raise InputError(f"{path}: {name}: expected an array, found none")
    found = dict(zip(axes, array.shape, strict=False))
    same = all(size == (int(axis) if axis.isdigit() else sizes.setdefault(axis, size)) for axis, size in found.items())
    if array.ndim != len(axes) or not same or 0 in array.shape:
        raise InputError(f"{path}: {name}: expected the axes [{' '.join(axes)}], found {list(array.shape)}")
    kinds, said = ("U", "words") if name == "networks" else ("iuf", "numbers")
    if name in BYTES:
        kinds, said = "B", "numbers of a byte"
    if not {array.dtype.kind, array.dtype.char} & set(kinds):
        raise InputError(f"{path}: {name}: expected {said}, found {array.dtype}")
    if kinds != "U" and not np.isfinite(array).all():
        raise InputError(f"{path}: {name}: expected finite numbers, found NaN or infinity")


def page(arrays: dict[str, np.ndarray], names: list[str], source: str) -> str:
    """The page of drives: it needs no other file, and the browser is told to load none.

    Args:
      arrays: the drives, as `read_drives` gives them.
      names: [N], what networks are called.
      source: what the data are.
    """
    own = Path(__file__)  # watch.css, watch.js and watch.html are beside it
    style, script, text = (own.with_suffix(kind).read_text("utf-8") for kind in (".css", ".js", ".html"))
    data = json.dumps(contents(arrays, names), separators=(",", ":")).replace("<", "\\u003c")
    return Template(text).substitute(
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=data,
        source=escape(source),
        beams=arrays["power"].shape[1],
        last=arrays["power"].shape[1] - 1,
        seen=escape(_seen(arrays)),
    )


def _hash(text: str) -> str:
    """By which a browser knows the one script, and the one style, that it may use."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _seen(arrays: dict[str, np.ndarray]) -> str:
    """The sensors in words."""
    words = [name for sensor, name in SENSORS.items() if sensor in arrays and sensor in MORE]
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])


def contents(arrays: dict[str, np.ndarray], names: list[str]) -> dict[str, Any]:
    """What the page knows, as JSON has it: numbers, and long arrays as the bytes of integers, base64.

    A drive of F frames has, besides 'number', 'slot' and 'best', [F], and 'position', [F, 2] m: 'loss', [F, M]
    hundredths of a dB under the best beam; 'beams', [N, F, S, K], 65535 for none, and 'shares', their probabilities in
    ten thousandths; 'lidar', [F, R] cm; and the other sensors as in `watch.npz`.
    """
    return {
        "networks": names,
        "seconds": float(arrays["slot_seconds"]),
        "observed": int(arrays["observed"]),
        "beams": arrays["power"].shape[1],
        "slots": arrays["beams"].shape[2],
        "likely": arrays["beams"].shape[3],
        "azimuth": arrays["azimuth"].round(2).tolist(),
        "bearings": np.rad2deg(RAYS).round(2).tolist(),
        "metres": float(arrays.get("metres", 0)),
        "speed": TESTBED.speed_cell * TESTBED.chirps / 2,
        "shapes": {name: arrays[name].shape[1:] for name in MORE if name in BYTES and name in arrays},
        "drives": [_drive(arrays, number) for number in np.unique(arrays["drive"])],
    }


def _drive(arrays: dict[str, np.ndarray], number: int) -> dict[str, Any]:
    own = arrays["drive"] == number
    power = arrays["power"][own].astype(np.float64)
    best = power.max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.nan_to_num(10 * np.log10(best / power), nan=FAINTEST, posinf=FAINTEST)
    drive = {
        "number": int(number),
        "slot": arrays["slot"][own].tolist(),
        "best": power.argmax(-1).tolist(),
        "position": _rounded(arrays["position"][own]),
        "loss": _shorts(100 * np.minimum(loss, FAINTEST)),
        "beams": _shorts(np.where(arrays["beams"] < 0, 2**16 - 1, arrays["beams"])[:, own]),
        "shares": _shorts(10_000 * arrays["probabilities"][:, own]),
    }
    if "lidar" in arrays:
        drive["lidar"] = _shorts(np.clip(100 * arrays["lidar"][own], 0, 2**16 - 1))
    if "gps" in arrays:
        drive["gps"] = _rounded(arrays["gps"][own])
    return drive | {name: _text(arrays[name][own]) for name in sorted(BYTES) if name in arrays}


def _rounded(metres: np.ndarray) -> list[list[float]]:
    return metres.astype(np.float64).round(2).tolist()


def _shorts(values: np.ndarray) -> str:
    """Numbers from 0 to 65535 as integers of two bytes, the lower one first."""
    return _text(np.round(values).astype("<u2"))


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
