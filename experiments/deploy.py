"""Networks of a run as files for a box beside the road: ONNX of float32 and int8, a frame at a time, StableHLO.

`python -m experiments.deploy RUN` checks each file against JAX, on one core and without JAX, and says what it costs.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from beamkd.base import InputError, Model, Output, Rows, Windows, expect_at_least, named_keys
from beamkd.claims import METRICS, Claim, judge_all
from beamkd.data import Dataset, gather, make_windows
from beamkd.data.inputs import taken_by_networks
from beamkd.data.masks import SOURCE
from beamkd.deploy import logits_of, stream_to_onnx, to_int8, to_onnx, to_stablehlo, try_out
from beamkd.models import load_network, published_model
from beamkd.priors import simulated_drives, streets_of_all_kinds
from beamkd.training import fit_temperature, from_primary, is_primary, score_batch, sums_by_drive, to_host
from experiments.common.dataset import cost_of, describe, open_dataset
from experiments.common.flags import Flags, main
from experiments.common.folder import EXPORTS, NETWORKS
from experiments.common.run import Run
from experiments.common.savings import Answers, savings

FORMS = ("float32", "int8")

SEED = re.compile(r"\.seed(\d+)$")
"""At the end of the name of a network that another seed than the first trained."""

AT_ONCE = 16
"""Windows that JAX predicts for at once."""

FAR = 1e-3
"""Share of the largest logit by which a file may differ from JAX; more is a fault of the conversion."""

DRIVES = 40
"""Simulated for calibration and comparison, each on a street of its own."""

LOST = 0.003
"""Of Top-5, that int8 may cost."""


@dataclasses.dataclass(frozen=True)
class Deploy(Flags):
    """Export networks, and measure what the files do. The data are for accuracy before and after; none calibrates."""

    network: tyro.conf.Positional[Path] = Path("runs/datafree")
    """A run's folder, all of whose networks of beams are exported, or a file with one: FILE.safetensors, FILE.npz."""
    windows: int = 1000
    """Simulated ones that int8 is calibrated on; on these, on as many of random numbers and on all of the test split a
    file is compared with JAX."""
    calls: int = 2000
    """That are timed, of one window each."""
    frames: int = 8
    """That a published network of FILE.npz looks at; those of runs say it themselves."""

    def __post_init__(self):
        super().__post_init__()
        expect_at_least(self, windows=1, calls=1, frames=1)


QUICK = {"drives": 24, "windows": 100, "calls": 200}
"""What `--quick` makes smaller."""


def run(config: Deploy) -> None:
    """Export, compare, measure; leaves its folder with the files, results and report."""
    if config.quick:
        config = dataclasses.replace(config, **{name: min(getattr(config, name), most) for name, most in QUICK.items()})
    models = networks_of(config.network, config.frames)
    config = dataclasses.replace(config, **_data_for(models, config))
    run = Run("deploy", config)
    dataset, keys = open_dataset(run, config)
    calibration = _simulated(keys[0], dataset, config.windows)
    exports, scores = {}, {}
    for name, model in models.items():
        with run.phase(name):
            exports[name], scores[name] = _exported(run, name, model, dataset, calibration, config)
    methods, test_drives = _by_seed(scores, _numbers(dataset))
    claims = [
        Claim("int8", f"int8 costs {name} at most 0.3 points", f"{name}_int8", f"{name}_float32", margin=LOST)
        for name in _seeds_of(scores)
    ]
    costs = {name: cost_of(model, future=dataset.future) for name, model in models.items()}
    judged = judge_all(claims, methods, test_drives["counts"])
    with run.phase("savings"):
        saved = _saved(models, dataset, calibration, config)
    parts = {"models": costs, "exports": exports, "methods": methods, "test_drives": test_drives, "claims": judged}
    run.finish(data=describe(config, dataset), **parts, savings=saved)
    if is_primary():
        from beamkd.report import deploy  # here, for Matplotlib would delay the first step

        deploy.write(run.folder)
        run.say(deploy.console_table(run.folder))
    run.say(f"files and report in {run.folder}, {run.seconds['total']:.0f} s in all")


def networks_of(path: Path, frames: int) -> dict[str, Model]:
    """The networks of beams in a run's folder, or the one of a file, by name.

    Raises:
      InputError: there are none, or they cannot be read.
    """
    if path.suffix == ".npz":
        return {path.stem: published_model(path, frames)}
    files = [path] if path.is_file() else sorted((path / NETWORKS).glob("*.safetensors"))
    models = {file.stem: load_network(file) for file in files}
    models = {name: model for name, model in models.items() if "noise" not in model.inputs}
    if not models:
        raise InputError(f"{path}: expected a run's folder, or FILE.safetensors or FILE.npz, found no network of beams")
    return models


def _data_for(models: Mapping[str, Model], config: Deploy) -> dict[str, Any]:
    """The flags that networks decide: which sensors, and how large masks are.

    Raises:
      InputError: networks take frames of other shapes than one another.
    """
    shapes = {}
    for name, model in models.items():
        for sensor, shape in model.inputs.items():
            if shapes.setdefault(sensor, shape)[1:] != shape[1:]:
                expected = f"{sensor} of shape {shapes[sensor][1:]} as of the others"
                raise InputError(f"{name}: expected {expected}, found {shape[1:]}")
    sensors = tuple(SOURCE.get(name, name) for name in shapes)
    return {"sensors": sensors, "mask_size": shapes["masks"][1] if "masks" in shapes else config.mask_size}


def _member(name: str, config: Deploy) -> int:
    """Which seed's split a network is tested on: that of the seed in its name, if it is one of the run's."""
    found = SEED.search(name)
    member = int(found[1]) - config.seed if found else 0
    if not 0 <= member < config.seeds:
        raise InputError(
            f"--seeds: expected those of the networks, found {config.seeds} from {config.seed}, and {name}"
        )
    return member


def _simulated(key: jax.Array, dataset: Dataset, count: int) -> dict[str, np.ndarray]:
    """Windows of streets of all kinds, as files take them: what is generated needs nobody's data."""
    streets, spec = streets_of_all_kinds(DRIVES), dataset.spec(dataset.sensors)
    drives = simulated_drives(named_keys(key, "calibration"), streets, DRIVES, spec)
    windows = make_windows(drives, dataset.observed, dataset.future)
    return _inputs(windows, _spread(np.arange(len(windows)), count))


def _exported(
    run: Run,
    name: str,
    model: Model,
    dataset: Dataset,
    calibration: Mapping[str, np.ndarray],
    config: Deploy,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a network's files: what they are, and how each does on the test split."""
    rows = _rows_of(dataset, "test", name, config)
    kinds = {"test": _inputs(dataset.windows, rows), "simulated": calibration, "random": _random(calibration)}
    kinds = {kind: _as_seen(model, windows) for kind, windows in kinds.items()}
    given = {sensor: np.concatenate([seen[sensor] for seen in kinds.values()]) for sensor in model.inputs}
    files = {"float32": f"{name}.onnx", "int8": f"{name}.int8.onnx"}
    contents = {"float32": to_onnx(model, dataset.future)}
    contents["int8"] = to_int8(contents["float32"], kinds["simulated"])
    _write(run, {files[form]: contents[form] for form in FORMS} | _further_files(name, model, dataset.future))

    expected = _logits(model, dataset.future, given)
    before = _scores(expected[: len(rows)], dataset, rows)
    ends = np.cumsum([len(next(iter(seen.values()))) for seen in kinds.values()])[:-1]
    found, scores = {}, {}
    for form in FORMS:
        trial = try_out(contents[form], given, config.calls)
        scores[form] = _scores(trial.logits[: len(rows)], dataset, rows)
        errors = [float(part.max()) for part in np.split(np.abs(trial.logits - expected), ends)]
        found[form] = {
            "file": files[form],
            "bytes": len(contents[form]),
            "max_error": dict(zip(kinds, errors, strict=True)),
            "top5_before": _top5(before),
            "top5_after": _top5(scores[form]),
            "p50_us": trial.microseconds(50),
            "p99_us": trial.microseconds(99),
            "peak_bytes": trial.peak,
        }
    _refuse_another(name, max(found["float32"]["max_error"].values()), float(np.abs(expected).max()))
    return found, scores


def _further_files(name: str, model: Model, future: int) -> dict[str, bytes]:
    """That are not measured: StableHLO, and, of a network that encodes frames, one that takes a frame at a time."""
    files = {f"{name}.stablehlo": bytes(to_stablehlo(model, future).serialize())}
    with contextlib.suppress(InputError):
        files[f"{name}.stream.onnx"] = stream_to_onnx(model, future)
    return files


def _refuse_another(name: str, apart: float, largest: float) -> None:
    """Raise `InputError` for a file whose logits are not those of the network."""
    if not apart <= FAR * largest:
        raise InputError(f"{name}: expected ONNX to give the logits of JAX, found them {apart:.2g} apart")


def _saved(
    models: Mapping[str, Model], dataset: Dataset, calibration: Mapping[str, np.ndarray], config: Deploy
) -> dict[str, Any]:
    """What predictions save, by network; calibrated by the teacher's answers on simulated windows if there is one."""
    found, seeds = {}, _seeds_of(models)
    for base, names in seeds.items():
        teachers = seeds["teacher"] if len(seeds.get("teacher", ())) == len(names) else [None] * len(names)
        scales = [
            1.0 if teacher is None else _temperature(models[name], models[teacher], dataset.future, calibration)
            for name, teacher in zip(names, teachers, strict=True)
        ]
        test, held_out = (
            [_answers(models[name], dataset, _rows_of(dataset, part, name, config)) for name in names]
            for part in ("test", "val")
        )
        found[base] = savings(test, held_out, scales, _numbers(dataset))
    return found


def _temperature(student: Model, teacher: Model, future: int, calibration: Mapping[str, np.ndarray]) -> float:
    """By which a student's probabilities come nearest to its teacher's."""
    logits, answers = (_logits(model, future, _as_seen(model, calibration)) for model in (student, teacher))
    return float(fit_temperature(jnp.asarray(logits), jax.nn.softmax(answers)))


def _answers(model: Model, dataset: Dataset, rows: np.ndarray) -> Answers:
    windows = dataset.windows
    batch = gather(windows, Rows(jnp.asarray(rows), jnp.ones(len(rows), bool)))
    logits = _logits(model, dataset.future, _as_seen(model, _inputs(windows, rows)))
    current = np.asarray(windows.observed)[rows, -1]
    return Answers(
        jnp.asarray(logits), batch, np.asarray(windows.drive)[rows], np.asarray(windows.frames.slot)[current]
    )


def _rows_of(dataset: Dataset, part: str, name: str, config: Deploy) -> np.ndarray:
    """Windows of a part of the split that a network was trained on."""
    member = _member(name, config)
    split = jax.tree.map(lambda leaf: leaf[member], to_host(getattr(dataset.split, part)))
    return split.index[split.mask]


def _as_seen(model: Model, windows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of windows what a network takes: its sensors, and the last of the frames."""
    return {name: windows[name][:, -shape[0] :] for name, shape in model.inputs.items()}


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, from first to last."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def _inputs(windows: Windows, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Some windows as files take them: by sensor [W, L, ...], float32, or uint8 where frames are stored as bits."""
    batch = gather(windows, Rows(jnp.asarray(rows), jnp.ones(len(rows), bool)))
    return {name: _as_numbers(name, seen) for name, seen in batch.sensors.items()}


def _as_numbers(name: str, seen: jax.Array) -> np.ndarray:
    """A sensor's frames in the units of `Drives`; those that are stored as bits unfolded."""
    if jnp.issubdtype(seen.dtype, jnp.floating):
        return np.asarray(seen)
    return np.asarray(taken_by_networks(name, seen).astype(jnp.uint8))


def _random(like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Windows of numbers that mean nothing, within the range of others; as sparse as scans are, one in ten is not 0."""
    rng = np.random.default_rng(0)

    def draw(seen):
        numbers = rng.uniform(seen.min(), seen.max(), seen.shape) if seen.dtype == np.float32 else seen.max()
        return np.where(rng.random(seen.shape, np.float32) < 0.1, numbers, 0).astype(seen.dtype)

    return {name: draw(seen) for name, seen in like.items()}


def _logits(model: Model, future: int, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """What JAX gives, [W, J + 1, M]."""
    predict = jax.jit(lambda params, seen: logits_of(dataclasses.replace(model, params=params), future, seen))
    count = len(next(iter(given.values())))
    pieces = [
        predict(
            model.params, {name: np.asarray(seen[first : first + AT_ONCE], np.float32) for name, seen in given.items()}
        )
        for first in range(0, count, AT_ONCE)
    ]
    return np.concatenate(pieces)


def _scores(logits: np.ndarray, dataset: Dataset, rows: np.ndarray) -> tuple[dict, dict]:
    """Sums of metrics over the windows of each test drive, and how many windows these are, by metric, [D, J + 1]."""
    chosen = Rows(jnp.asarray(rows), jnp.ones(len(rows), bool))
    score = jax.jit(lambda logits, batch: score_batch(lambda *_: Output(logits, logits[:, 0]), None, batch))
    scores = to_host(jax.tree.map(lambda leaf: leaf[None], score(jnp.asarray(logits), gather(dataset.windows, chosen))))
    each, valid = ({name: part[name] for name in METRICS} for part in (scores.each, scores.valid))
    drive = np.asarray(dataset.windows.drive)
    return sums_by_drive(scores.replace(each=each, valid=valid), to_host(chosen), drive, _numbers(dataset))


def _numbers(dataset: Dataset) -> np.ndarray:
    """Of the drives that any seed tests."""
    test = to_host(dataset.split.test)
    return np.unique(np.asarray(dataset.windows.drive)[test.index[test.mask]])


def _top5(scores: tuple[dict, dict]) -> list[float]:
    """By slot."""
    sums, counts = scores
    return (sums["top5"].sum(0) / np.maximum(counts["top5"].sum(0), 1)).tolist()


def _by_seed(scores: Mapping[str, Mapping[str, tuple]], numbers: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Networks that differ in their seed alone as one method in each form, and the test drives, as claims want them."""
    methods, counts = {}, {}
    for form in FORMS:
        for base, names in _seeds_of(scores).items():
            sums, counts = _stacked([scores[name][form] for name in names])
            rows = {metric: (values.sum(1) / np.maximum(counts[metric].sum(1), 1)) for metric, values in sums.items()}
            methods[f"{base}_{form}"] = rows | {"by_drive": jax.tree.map(lambda leaf: leaf.round(6), sums)}
    return methods, {"number": numbers, "counts": jax.tree.map(lambda leaf: leaf.astype(int), counts)}


def _seeds_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Names without their seed, and those of each."""
    found = {}
    for name in names:
        found.setdefault(SEED.sub("", name), []).append(name)
    return found


def _stacked(trees: list[tuple]) -> tuple:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _write(run: Run, files: Mapping[str, bytes]) -> None:
    def write():
        (run.folder / EXPORTS).mkdir(exist_ok=True)
        for name, contents in files.items():
            (run.folder / EXPORTS / name).write_bytes(contents)

    from_primary(write)


if __name__ == "__main__":
    main("deploy", Deploy, run)
