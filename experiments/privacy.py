"""What a teacher's owner gives away: of windows that it learned from, and of the road.

Membership tests tell training windows from those of the test split: by the metadata that go with a teacher, and by the
answers of the teacher, of a student by distillation on real windows (known to leak: Jagielski et al., NeurIPS 2023),
and of a data-free one. Who tries them has windows of the same road, those for validation. Beside it stands what streets
the metadata speak of. With fewer drives to learn from; and with Gaussian noise on the metadata, and what that costs.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import Array, InputError, Metadata, Model, Rows, named_keys
from beamkd.claims import interval
from beamkd.data import Dataset, forward_of
from beamkd.inversion import layers_of, summarize_on_dataset
from beamkd.losses import cross_entropy
from beamkd.membership import caught, in_order, nearness
from beamkd.training import FitConfig, is_primary, to_host
from beamkd.training.batches import over_rows
from experiments.common.comparison import Comparison, Method, judged, refuse_streamed, say_tables
from experiments.common.dataset import Trained, cost, evaluate_networks, open_dataset
from experiments.common.distillation import Distillation
from experiments.common.flags import Flags, main
from experiments.common.methods import Origin, origins_of, sequences_of, teacher_of
from experiments.common.recipes import BEAMKD, Recipe, affordable, smaller
from experiments.common.run import Run
from experiments.common.transfer import with_drives

MEASURES = {"area": in_order, "caught": caught}
"""Of a membership test: area under the ROC curve; members that are caught while one in a hundred others is."""

LABELS = {
    "metadata": "metadata",
    "teacher": "teacher",
    "kd": "student, KD on real data",
    "dfkd": "student, data-free",
}
"""What tests look at: the metadata, and answers of networks."""


@dataclasses.dataclass(frozen=True)
class Privacy(Flags):
    """Flags of the study of what is given away."""

    seeds: int = 5
    """How many."""
    few: tuple[int, ...] = (3, 10)
    """Drives to learn from, besides all: a case each."""
    noise: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Deviations of Gaussian noise on metadata, in spreads of each unit: a case each."""
    beamkd: Recipe = BEAMKD
    """Of the data-free student; its search is that for the owner's streets, too."""
    teacher_fit: FitConfig = FitConfig(epochs=100, patience=5, clip=0)
    """Training of the teacher."""
    kd_fit: FitConfig = FitConfig(epochs=100, patience=10)
    """Training of the student by distillation on the real windows."""
    reference_fit: FitConfig = FitConfig(epochs=20, patience=0)
    """Training of the network that says how hard a window is, on the windows for validation."""

    def __post_init__(self):
        super().__post_init__()
        if min(self.few, default=1) < 1:
            raise InputError(f"--few: expected 1 or more each, found {min(self.few)}")
        for noise in self.noise:
            if not 0 < noise < float("inf"):
                raise InputError(f"--noise: expected finite numbers of more than 0, found {noise:g}")


QUICK = {"seeds": 1, "drives": 12, "teacher_fit": 4, "kd_fit": 6, "reference_fit": 2}
"""What `--quick` makes smaller, with a few drives, one noise, and:"""

QUICK_RECIPE = {"sequences": 300, "held_out": 60, "generator_fit": 20, "search": 20, "dfkd_fit": 6}


def run(config: Privacy) -> None:
    """Run the study; leaves its folder with results and report."""
    config = _quick(config) if config.quick else config
    config = dataclasses.replace(config, beamkd=affordable(config.beamkd, config.sensors))
    run = Run("privacy", config, soon=config.quick)
    dataset, keys = open_dataset(run, config)
    refuse_streamed(dataset)
    source = Distillation(run, dataset, keys, config)
    origin = _origin(source, source.summaries, "dfkd")
    networks, tests = _handed_over(source, origin, config.noise)
    for count in config.few:
        few = dataclasses.replace(source, dataset=with_drives(dataset, keys, count), prefix=f"few{count}_")
        more = _handed_over(few, _origin(few, few.summaries, "dfkd"), ())
        networks, tests = networks | more[0], tests | more[1]
    shown = {name: Method(name, label_of(name), None, data_free="dfkd" in name) for name in networks}
    with run.phase("evaluation"):
        methods, test_drives, _ = evaluate_networks(run, dataset, networks)
        told = {name: {"label": label_of(name)} | _told(dataset, *test) for name, test in tests.items()}
    comparisons = [Comparison("Networks", [*shown.values()])]
    models = {"teacher": cost(dataset, source.teacher.model.module), "student": cost(dataset, source.student.module)}
    parts = judged(config, dataset, comparisons, shown, methods, test_drives, [])
    run.finish(**parts, models=models, tests=told, road=_road(config, origin))
    if is_primary():
        from beamkd.report import privacy  # here, for Matplotlib would delay the first step

        privacy.write(run.folder)
    say_tables(run)


def label_of(name: str) -> str:
    """What tables call a network, or what a test looks at."""
    case, _, what = name.rpartition("_")
    kind, number = case.rstrip("0123456789."), case.lstrip("fewnois")
    return LABELS[what] + {"": "", "few": f", {number} drives", "noise": f", noise {number}"}[kind]


Test = tuple[np.ndarray, Rows, np.ndarray]
"""Scores of windows [members, N], which these are, and which of them are members [members, N] bool."""


def _handed_over(
    source: Distillation, origin: Origin, noises: tuple[float, ...]
) -> tuple[dict[str, Trained], dict[str, Test]]:
    """What comes of a teacher and its metadata, as they are and with noise: networks, and tests, by name."""
    prefix, teacher, own = source.prefix, source.teacher, source.summaries
    networks = {"teacher": teacher, "kd": source.kd(f"{prefix}kd"), "dfkd": _data_free(source, origin, "dfkd")}
    summaries = {"metadata": own}
    for noise in noises:
        keys = named_keys(source.keys, f"noise {noise:g}")
        hidden, name = jax.vmap(functools.partial(noisy, deviation=noise))(keys, own), f"noise{noise:g}"
        summaries[f"{name}_metadata"] = hidden
        networks[f"{name}_dfkd"] = _data_free(source, _origin(source, hidden, f"{name}_dfkd"), f"{name}_dfkd")
    rows, members = candidates(source.dataset)
    hard = _losses(source, _reference(source), rows)
    scores = {name: hard - _losses(source, network.model, rows) for name, network in networks.items()}
    scores |= {name: _nearness(source, each, rows) for name, each in summaries.items()}
    named = {f"{prefix}{name}": network for name, network in networks.items()}
    return named, {f"{prefix}{name}": (each, rows, members) for name, each in scores.items()}


def noisy(key: Array, summary: Metadata, deviation: float) -> Metadata:
    """Metadata with Gaussian noise: on means and spreads, so many spreads of each unit."""

    def one(number: int, own: Metadata) -> Metadata:
        to_mean, to_spread = (
            deviation * jax.random.normal(each, own.mean.shape)
            for each in jax.random.split(jax.random.fold_in(key, number))
        )
        spread = jnp.sqrt(own.variance)
        return own.replace(mean=own.mean + spread * to_mean, variance=jnp.square(spread * (1 + to_spread)))

    layers = {name: one(number, own) for number, (name, own) in enumerate(sorted(summary.layers.items()), start=1)}
    return one(0, summary).replace(layers=layers)


def candidates(dataset: Dataset) -> tuple[Rows, np.ndarray]:
    """Windows for training and those for the test of each seed, and which are the former, [members, N] both."""
    train, test = to_host((dataset.split.train, dataset.split.test))
    rows = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), train, test)
    return rows, np.broadcast_to(np.arange(rows.mask.shape[1]) < train.mask.shape[1], rows.mask.shape)


def _origin(source: Distillation, summaries: Metadata, name: str) -> Origin:
    common, phase = (source.run, source.keys, source.dataset), f"{source.prefix}{name}_generator"
    return origins_of(*common, source.teacher.model, lambda: summaries, source.config.beamkd, phase)


def _data_free(source: Distillation, origin: Origin, name: str) -> Trained:
    recipe = source.config.beamkd
    sequences = sequences_of(source.run, source.keys, source.dataset, origin, recipe)
    return source.distil(recipe, sequences, f"{source.prefix}{name}")


def _reference(source: Distillation) -> Model:
    """The teacher's network, trained on the windows for validation alone."""
    dataset = source.dataset
    split = dataset.split.replace(train=dataset.split.val, val=None)
    own = dataclasses.replace(source, dataset=dataclasses.replace(dataset, split=split))
    untrained_ = own.untrained(teacher_of(dataset, source.kind), "reference")
    return own.on_labels(untrained_, source.config.reference_fit, f"{source.prefix}reference").model


def _losses(source: Distillation, model: Model, rows: Rows) -> np.ndarray:
    """Cross-entropy of windows, mean over their labels, [members, N]."""
    forward = forward_of(model, predicted_only=True)

    def losses(params, batch):
        each = cross_entropy(forward(params, batch, None).logits, batch.labels)
        return each.sum(1) / jnp.maximum((batch.labels >= 0).sum(1), 1)

    return _of_windows(source, losses, model.params, rows)


def _nearness(source: Distillation, summaries: Metadata, rows: Rows) -> np.ndarray:
    """Of windows to the metadata, and not to those of the windows for validation, [members, N]."""
    teacher, dataset = source.teacher.model, source.dataset
    forward = forward_of(teacher)
    held = dataclasses.replace(dataset, split=dataset.split.replace(train=dataset.split.val))
    reference = summarize_on_dataset(source.run, teacher, held)

    def near(known, batch):
        params, own, other = known
        return nearness(layers_of(forward(params, batch, None)), own.layers, other.layers)

    return _of_windows(source, near, (teacher.params, summaries, reference), rows)


def _of_windows(source: Distillation, function: Callable[[Any, Any], Array], known: Any, rows: Rows) -> np.ndarray:
    """function(what is known [members, ...], batch) -> [B] of all windows, [members, N]."""
    dataset = source.dataset

    def one(known, data, rows):
        found = over_rows(functools.partial(function, known), data, rows, dataset.take)
        return found.reshape(-1)[: len(rows.mask)]

    over = source.run.over_members(one, (0, None, 0))
    return to_host(over(known, dataset.source(source.teacher.model.inputs), rows))


def _told(dataset: Dataset, scores: np.ndarray, rows: Rows, members: np.ndarray) -> dict[str, Any]:
    """How well members are told: by measure its mean over seeds, and the interval over seeds and drives."""
    numbers, drive = np.unique(np.asarray(dataset.windows.drive), return_inverse=True)

    def by_seed(measure):
        def values(weights):
            each = [
                measure(weights, own[there], known[there], drive[index[there]])
                for own, known, index, there in zip(scores, members, rows.index, rows.mask, strict=True)
            ]
            return np.stack(each, axis=1)[..., None]

        return values

    found = {}
    for name, measure in MEASURES.items():
        low, high = interval(by_seed(measure), len(scores), len(numbers))
        mean = by_seed(measure)(np.ones((1, len(numbers)))).mean()
        found[name] = {"mean": float(mean), "low": float(low[0]), "high": float(high[0])}
    return found


def _road(config: Privacy, origin: Origin) -> dict[str, Any]:
    """The streets that the metadata speak of, by seed; and the one that there is, if it was simulated."""
    found = [] if isinstance(origin, Model) else [dataclasses.asdict(family) for family in origin]
    return {"found": found, **({"true": dataclasses.asdict(config.street)} if config.source == "sim" else {})}


def _quick(config: Privacy) -> Privacy:
    small = dataclasses.replace(smaller(config, QUICK), few=config.few[:1], noise=config.noise[:1])
    return dataclasses.replace(small, beamkd=smaller(config.beamkd, QUICK_RECIPE))


if __name__ == "__main__":
    main("privacy", Privacy, run)
