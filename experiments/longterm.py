"""Long-term tracking with short inputs, and what students learn from: the two camera papers' studies.

Grid 'longterm' (arXiv 2509.11419): a teacher with attention that has taught itself, students that see 8, 5 or 3 frames,
with and without KD, the current slot and 6 more. Grid 'collaborative' (the study of arXiv 2603.16116): a student that
learns from logits, from features before or after the recurrent layer, or from relations between windows, 3 slots ahead;
and one whose labels are smoothed over neighbouring beams, which takes no teacher.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

from flax import linen as nn

from beamkd.base import Array, InputError, Model, named_keys
from beamkd.claims import Claim
from beamkd.data import Dataset, initial_model
from beamkd.distill import Terms, distill_on_windows, matched, unmatched
from beamkd.losses import (
    Loss,
    angle_relations,
    cosine_relations,
    distance_relations,
    focal,
    kl,
    match_codes,
    match_states,
    neighbour_targets,
    soft_cross_entropy,
)
from beamkd.models import CollaborativeStudent, CollaborativeTeacher, LongTermStudent, LongTermTeacher
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
from experiments.common.dataset import Trained, keep_networks, open_dataset
from experiments.common.flags import main
from experiments.common.kd_flags import KdFlags
from experiments.common.methods import train_on_labels, trained
from experiments.common.recipes import smaller
from experiments.common.run import Run
from experiments.common.watch import keep_drives

FUTURE = {"longterm": 6, "collaborative": 3}
"""Slots ahead, by grid, as in the papers."""

FRAMES = (8, 5, 3)
"""Camera frames that students see; their motion masks are one fewer, for each is of two."""

EQUAL = 0.01
"""What is still called equal: a point."""

FEATURES = 10.0
"""Weight of features and of relations against the labels; of cosines and angles twice that."""

REACH = 1.0
"""Beams over which labels are smoothed."""

TERMS: dict[str, tuple[str, Terms]] = {
    "before": ("features before the GRU", {"codes": (FEATURES, match_codes)}),
    "after": ("features after the GRU", {"states": (FEATURES, match_states)}),
    "both": ("features before and after", {"codes": (FEATURES, match_codes), "states": (FEATURES, match_states)}),
    "relations": (
        "relations",
        {"distances": (FEATURES, distance_relations), "cosines": (2 * FEATURES, cosine_relations)},
    ),
    "angles": (
        "distances and angles",
        {"distances": (FEATURES, distance_relations), "angles": (2 * FEATURES, angle_relations)},
    ),
}
"""What the collaborative student learns from besides labels, by name, with a title."""


@dataclasses.dataclass(frozen=True)
class LongTerm(KdFlags):
    """Flags of the long-term study."""

    grid: Literal["longterm", "collaborative"] = "longterm"
    """Which paper's study."""
    sensors: tuple[str, ...] = ("camera",)
    """The networks are the camera's."""
    mask_size: int = 64
    """Rows and columns of motion masks, to which the camera's frames are shrunk; the papers' have 224."""
    seeds: int = 5
    """How many seeds: each draws split, weights and batches."""
    alpha: float = 0.4
    """Weight of the teacher's logits against the labels."""
    temperature: float = 4.0
    """T of the KL divergence."""
    teacher_fit: FitConfig = FitConfig(epochs=20, patience=0, batch_size=32, clip=2)
    """Training of the teachers."""
    student_fit: FitConfig = FitConfig(epochs=20, patience=0, batch_size=32, clip=10)
    """Training of the students."""

    def __post_init__(self):
        super().__post_init__()
        if self.sensors != ("camera",):
            raise InputError(f"--sensors: expected camera alone, found {' '.join(self.sensors)}")
        if self.mask_size < 32:
            raise InputError(f"--mask-size: expected 32 or more for the teachers, found {self.mask_size}")


QUICK = {"seeds": 1, "drives": 8, "mask_size": 32, "teacher_fit": 2, "student_fit": 2}
"""What `--quick` makes smaller; and to compile four programs is enough, of methods:"""

QUICK_METHODS = ("teacher_first", "teacher", "scratch", "kd_logits", "scratch_3", "kd_3")

LONG_TERM = [
    Claim("attention", "Attention makes the teacher better.", "teacher_first", "teacher_plain"),
    Claim("self-KD", "A teacher taught by its like is better.", "teacher", "teacher_first"),
    *(Claim("kd", f"KD makes the student of {n} frames better.", f"kd_{n}", f"scratch_{n}") for n in FRAMES),
    Claim("short", "3 frames with KD are level with 8 without.", "kd_3", "scratch_8", EQUAL),
    Claim("short", "3 frames with KD are level with the teacher.", "kd_3", "teacher", EQUAL),
]
"""Of arXiv 2509.11419."""

COLLABORATIVE = [
    Claim("self-KD", "A teacher taught by its like is better.", "teacher", "teacher_first"),
    Claim("kd", "KD of logits makes the student better.", "kd_logits", "scratch"),
    *(Claim("kd", f"KD of {title} makes it better.", f"kd_{name}", "scratch") for name, (title, _) in TERMS.items()),
    Claim("control", "KD of logits is more than to smooth labels.", "kd_logits", "scratch_smoothed"),
]
"""Of arXiv 2603.16116."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What all methods start from.

    Attributes:
      run: the run.
      dataset: the windows as they are trained on, in runs.
      keys: [members].
      config: the flags.
      networks: those that were trained, by name.
    """

    run: Run
    dataset: Dataset
    keys: Array
    config: LongTerm
    networks: dict[str, Trained] = dataclasses.field(default_factory=dict)

    def on_labels(self, name: str, module: nn.Module, frames: int = FRAMES[0], loss: Loss = focal) -> Method:
        """A network of so many camera frames, trained on the real labels."""

        def train():
            common = self.run, self.keys, self.dataset
            return train_on_labels(*common, self._untrained(module, frames), self._fit(name), name, loss)

        return self._method(name, train)

    def distilled(
        self,
        name: str,
        module: nn.Module,
        teacher: str,
        frames: int = FRAMES[0],
        alpha: float = 0.0,
        temperature: float = 1.0,
        terms: Terms | None = None,
    ) -> Method:
        """The same of a teacher, too: of its logits by the weight `alpha`, and by further terms."""

        def train():
            own, student = self.networks[teacher].model, self._untrained(module, frames)
            keys = named_keys(self.keys, f"{name} fit")
            layers = [layer for layer in ("codes", "states") if terms and layer in terms]
            learner = matched(keys, student, own, layers, self.dataset.future) if layers else student
            options = (functools.partial(kl, temperature=temperature), alpha, terms, focal)
            common = self.run, name, keys, learner, own, self.dataset, self._fit(name)
            found = trained(learner, distill_on_windows(*common, *options))
            return dataclasses.replace(found, model=unmatched(found.model)) if layers else found

        return self._method(name, train)

    def _method(self, name: str, train: Callable[[], Trained]) -> Method:
        def once():
            self.networks[name] = train()
            return self.networks[name]

        return Method(name, LABELS[self.config.grid][name], once)

    def _untrained(self, module: nn.Module, frames: int) -> Model:
        """With initial weights: the same for all networks of one kind."""
        spec = self.dataset.spec(self.dataset.sensors)
        return initial_model(named_keys(self.keys, type(module).__name__), module, spec, frames=frames - 1)

    def _fit(self, name: str) -> FitConfig:
        config = self.config.teacher_fit if name.startswith("teacher") else self.config.student_fit
        return in_rows(config, self.config.neighbours)


def _longterm_grid(source: Source) -> list[Comparison]:
    config, beams = source.config, source.dataset.beams
    kd = {"alpha": config.alpha, "temperature": config.temperature}
    teacher, student = LongTermTeacher(beams=beams), LongTermStudent(beams=beams)
    teachers = [
        source.on_labels("teacher_plain", teacher.clone(heads=0)),
        source.on_labels("teacher_first", teacher),
        source.distilled("teacher", teacher, "teacher_first", **kd),
    ]
    students = [
        method
        for frames in FRAMES
        for method in (
            source.on_labels(f"scratch_{frames}", student, frames),
            source.distilled(f"kd_{frames}", student, "teacher", frames, **kd),
        )
    ]
    return [Comparison("Teachers and students", [*teachers, *students])]


def _collaborative_grid(source: Source) -> list[Comparison]:
    beams = source.dataset.beams
    teacher, student = CollaborativeTeacher(beams=beams), CollaborativeStudent(beams=beams)
    rows = [
        source.on_labels("teacher_first", teacher),
        source.distilled("teacher", teacher, "teacher_first", alpha=0.5, temperature=3.0),
        source.on_labels("scratch", student),
        source.on_labels("scratch_smoothed", student, loss=_smoothed),
        source.distilled("kd_logits", student, "teacher", alpha=0.7, temperature=4.0),
        *(source.distilled(f"kd_{name}", student, "teacher", terms=terms) for name, (_, terms) in TERMS.items()),
    ]
    return [Comparison("What the student learns from", rows)]


def _smoothed(logits: Array, labels: Array) -> Array:
    """Cross-entropy against labels smoothed over neighbouring beams, [...]."""
    return soft_cross_entropy(logits, neighbour_targets(labels, logits.shape[-1], REACH))


LABELS = {
    "longterm": {
        "teacher_plain": "teacher, no attention",
        "teacher_first": "teacher",
        "teacher": "teacher, self-KD",
        **{f"scratch_{frames}": f"student, {frames} frames" for frames in FRAMES},
        **{f"kd_{frames}": f"student, {frames} frames, KD" for frames in FRAMES},
    },
    "collaborative": {
        "teacher_first": "teacher",
        "teacher": "teacher, self-KD",
        "scratch": "student, no KD",
        "scratch_smoothed": "no KD, labels smoothed",
        "kd_logits": "KD of logits",
        **{f"kd_{name}": f"KD of {title}" for name, (title, _) in TERMS.items()},
    },
}
"""What methods are called, by grid."""

GRIDS = {"longterm": (_longterm_grid, LONG_TERM), "collaborative": (_collaborative_grid, COLLABORATIVE)}


def run(config: LongTerm) -> None:
    """Run the study; leaves its folder with results and report."""
    config = smaller(config, QUICK) if config.quick else config
    run = Run("longterm", config, soon=config.quick)
    dataset, keys = open_dataset(run, config, FUTURE[config.grid])
    refuse_streamed(dataset)
    grid, claims = GRIDS[config.grid]
    (whole,) = grid(Source(run, dataset.in_runs(config.neighbours), keys, config))
    chosen = [method for method in whole.methods if not config.quick or method.name in QUICK_METHODS]
    comparisons = [dataclasses.replace(whole, methods=chosen)]
    methods = methods_of(comparisons)
    networks = {name: method.train() for name, method in methods.items()}
    models = {name: network.model for name, network in networks.items()}
    keep_networks(run, config, models)
    keep_drives(run, dataset, models)
    parts, _ = compare(run, config, dataset, comparisons, methods, networks, claims)
    run.finish(**parts, models=costs(run, dataset, networks, timed=not config.quick))
    if is_primary():
        from beamkd.report import longterm  # here, for Matplotlib would delay the first step

        longterm.write(run.folder)
    say_tables(run)


if __name__ == "__main__":
    main("longterm", LongTerm, run)
