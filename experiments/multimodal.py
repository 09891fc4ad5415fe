"""Several sensors, and what they teach one (arXiv 2604.16708): fusion, students of one sensor, a sensor that fails.

Teachers see each sensor alone, pairs, and all. Students see one sensor, with and without what the teacher of all knows.
Then a sensor is missing, frozen or noisy when it is tested, and it shows what modality dropout is worth. With the grid
'datafree' the students have no data: generated scenes are rendered for all sensors, so that the teacher sees of them
what the student does not.
"""

import dataclasses
import functools
import itertools
from typing import Any, Literal

import numpy as np

from beamkd.base import Array, InputError, Model, cached_method, named_keys
from beamkd.claims import Claim
from beamkd.data import Dataset, initial_model
from beamkd.distill import distill_on_windows
from beamkd.inversion import summarize_on_dataset
from beamkd.losses import kl
from beamkd.models import FAILURES, Failing, SensorStudent, SensorTeacher, failing
from beamkd.training import FitConfig, is_primary
from experiments.common.comparison import (
    Comparison,
    Method,
    compare,
    costs,
    in_rows,
    methods_of,
    refuse_streamed,
    say_tables,
)
from experiments.common.dataset import Trained, keep_networks, longest_test_drive, open_dataset
from experiments.common.flags import main
from experiments.common.kd_flags import KdFlags
from experiments.common.methods import origins_of, sequences_of, student_of_sequences, train_on_labels, trained
from experiments.common.recipes import SCENES, Recipe, affordable, smaller
from experiments.common.run import Run
from experiments.common.watch import keep_drives

TITLES = {"lidar": "LiDAR", "radar": "radar", "doppler": "Doppler", "masks": "camera", "gps": "position"}
"""How tables call sensors."""

DROPOUT = 0.5
"""Of the teachers' codes."""

EQUAL = 0.01
"""What is still called equal: a point."""

BEARABLE = 0.03
"""What a missing sensor may cost with modality dropout."""


@dataclasses.dataclass(frozen=True)
class Multimodal(KdFlags):
    """Flags of the study of several sensors."""

    grid: Literal["sensors", "datafree", "all"] = "sensors"
    """What to compare: teachers, students and failures of sensors; or students without data; or all."""
    sensors: tuple[str, ...] = ("lidar", "radar", "camera")
    """Two or more of lidar, radar (range-angle maps), doppler (its Doppler-angle maps), camera (motion masks), gps."""
    seeds: int = 10
    """How many seeds: each draws split, weights and batches."""
    sensor_dropout: float = 0.3
    """Probability with which a sensor is left out of a window in the training of the teacher with modality dropout."""
    teacher_fit: FitConfig = FitConfig(epochs=60, patience=10, clip=1)
    """Training of the teachers."""
    student_fit: FitConfig = FitConfig(epochs=120, patience=20, clip=1, learning_rate=3e-3)
    """Training of the students, with and without a teacher."""
    recipe: Recipe = SCENES
    """Of the students without data."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.sensors) < 2:
            raise InputError(f"--sensors: expected two or more, found {' '.join(self.sensors)}")
        if not 0 <= self.sensor_dropout < 1:
            raise InputError(f"--sensor-dropout: expected 0 or more and less than 1, found {self.sensor_dropout}")


QUICK = {"seeds": 1, "drives": 8, "teacher_fit": 3, "student_fit": 3}
"""What `--quick` makes smaller, of two sensors; and of the recipe:"""

QUICK_RECIPE = {"sequences": 100, "held_out": 20, "generator_fit": 10, "dfkd_fit": 3}


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What all methods start from.

    Attributes:
      run: the run.
      dataset: the windows.
      keys: [members].
      config: the flags.
    """

    run: Run
    dataset: Dataset
    keys: Array
    config: Multimodal

    @functools.cached_property
    def in_runs(self) -> Dataset:
        """The windows as they are trained on."""
        return self.dataset.in_runs(self.config.neighbours)

    @cached_method
    def teacher(self, sensors: tuple[str, ...], dropout: float = 0.0) -> Trained:
        """A teacher of some sensors, on the real labels."""
        module = SensorTeacher(sensors=sensors, dropout=DROPOUT, sensor_dropout=dropout, beams=self.dataset.beams)
        return self._on_labels(module, teacher_name(self.dataset, sensors, dropout), self.config.teacher_fit)

    @property
    def whole(self) -> Trained:
        """The teacher of all sensors."""
        return self.teacher(self.dataset.sensors)

    def scratch(self, sensor: str) -> Trained:
        """A student of one sensor, on the real labels."""
        return self._on_labels(self._student(sensor), f"scratch_{sensor}", self.config.student_fit)

    def kd(self, sensor: str) -> Trained:
        """A student of one sensor and of the teacher of all, on real windows."""
        name, config = f"kd_{sensor}", self.config
        student = self._untrained(self._student(sensor), f"scratch_{sensor}")
        fit = in_rows(config.student_fit, config.neighbours)
        options = fit, functools.partial(kl, temperature=config.temperature), config.alpha
        common = self.run, name, named_keys(self.keys, name), student, self.whole.model, self.in_runs
        return trained(student, distill_on_windows(*common, *options))

    @functools.cached_property
    def sequences(self) -> Any:
        """Scenes that look right to the teacher of all, as all sensors see them."""
        common = self.run, self.keys, self.dataset
        summaries = functools.partial(summarize_on_dataset, self.run, self.whole.model, self.dataset)
        origin = origins_of(*common, self.whole.model, summaries, self.config.recipe)
        return sequences_of(*common, origin, self.config.recipe)

    def dfkd(self, sensor: str) -> Trained:
        """A student of one sensor and of the teacher of all, without data."""
        student = self._untrained(self._student(sensor), f"scratch_{sensor}")
        common = self.run, self.keys, self.dataset, self.whole.model
        return student_of_sequences(*common, student, self.sequences, self.config.recipe, f"dfkd_{sensor}")

    def _student(self, sensor: str) -> SensorStudent:
        return SensorStudent(sensors=(sensor,), beams=self.dataset.beams)

    def _untrained(self, module: SensorTeacher | SensorStudent, name: str) -> Model:
        return initial_model(named_keys(self.keys, name), module, self.dataset.spec(module.sensors))

    def _on_labels(self, module: SensorTeacher | SensorStudent, name: str, config: FitConfig) -> Trained:
        model, fit = self._untrained(module, name), in_rows(config, self.config.neighbours)
        return train_on_labels(self.run, self.keys, self.in_runs, model, fit, name)


def teacher_name(dataset: Dataset, sensors: tuple[str, ...], dropout: float = 0.0) -> str:
    """What a teacher is called: 'teacher' if it sees all."""
    seen = () if sensors == dataset.sensors else sensors
    return "_".join(["teacher", *seen, *(["dropout"] if dropout else [])])


def run(config: Multimodal) -> None:
    """Run the study; leaves its folder with results and report."""
    config = _quick(config) if config.quick else config
    config = dataclasses.replace(config, recipe=affordable(config.recipe, config.sensors))
    run = Run("multimodal", config, soon=config.quick)
    dataset, keys = open_dataset(run, config)
    refuse_streamed(dataset)
    source = Source(run, dataset, keys, config)
    comparisons = [comparison for grid in _grids(config) for comparison in grid(source)]
    methods = methods_of(comparisons)
    networks = {name: method.train() for name, method in methods.items()}
    whole = {name: network for name, network in networks.items() if not isinstance(network.model.module, Failing)}
    models = {name: network.model for name, network in whole.items()}
    keep_networks(run, config, models)
    parts, beams = compare(run, config, dataset, comparisons, methods, networks, _claims(dataset))
    _keep_drive(run, dataset, beams)
    keep_drives(run, dataset, models)
    run.finish(**parts, models=costs(run, dataset, whole, timed=not config.quick))
    if is_primary():
        from beamkd.report import multimodal  # here, for Matplotlib would delay the first step

        multimodal.write(run.folder)
    say_tables(run)


def _sensors_grid(source: Source) -> list[Comparison]:
    sensors, rate = source.dataset.sensors, source.config.sensor_dropout
    label = " + ".join

    def teacher(seen):
        name, titles = teacher_name(source.dataset, seen), [TITLES[sensor] for sensor in seen]
        return Method(name, label(titles), functools.partial(source.teacher, seen))

    whole = dataclasses.replace(teacher(sensors), label="all sensors")
    dropping = functools.partial(source.teacher, sensors, rate)
    dropout = Method("teacher_dropout", "all sensors, modality dropout", dropping)
    pairs = [teacher(pair) for pair in itertools.combinations(sensors, 2)]
    pairs = [] if len(sensors) == 2 else pairs  # two are all
    fusion = [whole, dropout, *pairs, *(teacher((sensor,)) for sensor in sensors)]
    failing = [
        Method(
            f"{name}_{failure}_{sensor}",
            f"{TITLES[sensor]} {failure}, {title}",
            functools.partial(lambda network, *how: _failing(network(), *how), network, sensor, failure),
        )
        for sensor in sensors
        for failure in FAILURES
        for name, title, network in (("plain", "without", lambda: source.whole), ("dropout", "with", dropping))
    ]
    return [
        Comparison("Teachers", fusion),
        Comparison("Students of one sensor", [whole, *_students(source)]),
        Comparison("A sensor fails, without and with modality dropout", [whole, dropout, *failing]),
    ]


def _failing(network: Trained, *how: str) -> Trained:
    """A network one of whose sensors fails."""
    model = network.model  # modality dropout is for training: without it one program serves all
    return Trained(failing(dataclasses.replace(model, module=model.module.clone(sensor_dropout=0.0)), *how))


def _students(source: Source) -> list[Method]:
    kinds = {"scratch": ("real labels", source.scratch), "kd": ("KD on real data", source.kd)}
    return [
        Method(f"{kind}_{sensor}", f"{TITLES[sensor]}, {title}", functools.partial(train, sensor))
        for sensor in source.dataset.sensors
        for kind, (title, train) in kinds.items()
    ]


def _datafree_grid(source: Source) -> list[Comparison]:
    free = [
        Method(f"dfkd_{sensor}", f"{TITLES[sensor]}, data-free", functools.partial(source.dfkd, sensor), data_free=True)
        for sensor in source.dataset.sensors
    ]
    whole = Method("teacher", "all sensors", lambda: source.whole)
    return [Comparison("Students of one sensor, without data", [whole, *_students(source), *free])]


def _grids(config: Multimodal) -> list[Any]:
    grids = {"sensors": _sensors_grid, "datafree": _datafree_grid}
    return [*grids.values()] if config.grid == "all" else [grids[config.grid]]


def _claims(dataset: Dataset) -> list[Claim]:
    """What the literature says, and what we hope for; by sensor."""
    claims = [Claim("failure", "Modality dropout costs nothing while all work.", "teacher_dropout", "teacher", EQUAL)]
    for sensor in dataset.sensors:
        title, missing = TITLES[sensor], f"dropout_missing_{sensor}"
        claims += [
            Claim("fusion", f"All sensors together beat {title} alone.", "teacher", f"teacher_{sensor}"),
            Claim("kd", f"KD makes the student of {title} better.", f"kd_{sensor}", f"scratch_{sensor}"),
            Claim("failure", f"With dropout, no {title} costs at most 3 points.", missing, "teacher_dropout", BEARABLE),
            Claim("failure", f"Dropout helps where {title} is missing.", missing, f"plain_missing_{sensor}"),
            Claim("datafree", f"{title}: data-free is on a par with KD.", f"dfkd_{sensor}", f"kd_{sensor}", EQUAL),
            Claim("datafree", f"{title}: data-free is on a par with its teacher.", f"dfkd_{sensor}", "teacher", EQUAL),
        ]
    return sorted(claims, key=lambda claim: ("fusion", "kd", "failure", "datafree").index(claim.name))


def _keep_drive(run: Run, dataset: Dataset, beams: dict[str, np.ndarray]) -> None:
    """Arrays behind the figure of a drive: the longest test drive of the first seed, powers and predicted beams."""
    rows, shown, _ = longest_test_drive(dataset)
    power = dataset.windows.frames.power[np.asarray(dataset.windows.predicted)[rows[shown], 0]]
    if is_primary():
        predicted = {f"beam_{name}": found[0, shown] for name, found in beams.items()}
        np.savez_compressed(run.folder / "figures.npz", power=np.asarray(power), **predicted)


def _quick(config: Multimodal) -> Multimodal:
    quick = smaller(config, QUICK)
    return dataclasses.replace(quick, sensors=config.sensors[:2], recipe=smaller(config.recipe, QUICK_RECIPE))


if __name__ == "__main__":
    main("multimodal", Multimodal, run)
