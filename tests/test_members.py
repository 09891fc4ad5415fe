"""Teachers, students and generators of several members, through a trainer: of any sensors, and of unequal frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import softmax as softmax_over

from beamkd.base import Drives, Metadata, Model, Output, named_keys
from beamkd.data import (
    deal,
    forward_of,
    gather,
    initial_model,
    make_windows,
    open_drives,
    select,
    sensor_batch,
    store_drives,
)
from beamkd.distill import distill_on_sequences, distill_on_windows, matched, teacher_answers, unmatched
from beamkd.inversion import (
    GeneratorLoss,
    generate_sequences,
    inversion_task,
    summarize,
    summarize_on_dataset,
    train_generators,
)
from beamkd.losses import distance_relations, feature_matching, focal, kl, masked_mean, match_codes, match_states
from beamkd.models import Generator, GruStudent, GruTeacher
from beamkd.training import FitConfig, Trainer, all_rows, fit

DRIVES, FRAMES, BEAMS, SENSORS = 10, 12, 5, {"lidar": 6, "other": 4}
OBSERVED, FUTURE, SEEDS = 8, 2, 2
KEYS = jax.random.split(jax.random.key(0), SEEDS)
FIT = FitConfig(epochs=3, batch_size=16, patience=0, learning_rate=1e-2)


class Network(nn.Module):
    """A network of one sensor or of several, whose states add up the frames."""

    features: int = 7
    dropout: float = 0.0

    @nn.compact
    def __call__(self, seen, future=0, train=False, slots=None):
        seen = seen if isinstance(seen, dict) else {"one": seen}
        codes = sum(nn.Dense(self.features, name=name)(seen[name]) for name in sorted(seen))
        states = jnp.tanh(jnp.cumsum(jnp.pad(codes, ((0, 0), (0, future), (0, 0))), 1))
        logits = nn.Dense(BEAMS)(states)
        return Output(logits if slots is None else logits[:, -slots:], states[:, -1], {"states": states})


@pytest.fixture(scope="module")
def drives():
    rng, count = np.random.default_rng(0), DRIVES * FRAMES
    sensors = {name: rng.normal(size=(count, width)).astype(np.float32) for name, width in SENSORS.items()}
    return Drives(
        sensors=sensors,
        power=rng.random((count, BEAMS)).astype(np.float32),
        position=np.zeros((count, 2), np.float32),
        drive=np.repeat(np.arange(DRIVES, dtype=np.int32), FRAMES),
        slot=np.tile(np.arange(FRAMES, dtype=np.int32), DRIVES),
    )


@pytest.fixture(scope="module")
def dataset(drives):
    return deal(KEYS, make_windows(drives, OBSERVED, FUTURE))


@pytest.fixture(scope="module")
def model(dataset):
    """model(name, sensors, frames) -> a network with weights of its own."""

    def model(name, sensors, frames=None, features=7):
        return initial_model(named_keys(KEYS, name), Network(features), dataset.spec(sensors), frames)

    return model


def softmax(logits):
    return softmax_over(logits, -1)


def of_member(tree, member):
    return jax.tree.map(lambda leaf: leaf[member], tree)


def windows_of(dataset, member):
    return gather(dataset.windows, of_member(dataset.split.train, member))


def features(features, teacher_features, mask, axis_name=None):
    """A further term: the students' last states near their teachers'."""
    return masked_mean(feature_matching(features, teacher_features), mask, axis_name=axis_name)


@pytest.mark.parametrize(
    ("seen", "frames", "options"),
    [
        ((["lidar"], ["lidar"]), 3, {}),
        ((["lidar", "other"], ["lidar", "other"]), 3, {}),
        ((["lidar", "other"], ["other"]), None, {"alpha": 0.5, "terms": {"features": (0.3, features)}}),
    ],
    ids=["fewer frames", "fewer frames of two sensors", "fewer sensors"],
)
def test_a_student_learns_the_slots_that_it_predicts_as_its_teacher_does(dataset, model, seen, frames, options):
    teacher, student = model("teacher", seen[0]), model("student", seen[1], frames)
    steps = FitConfig(epochs=3, batch_size=1000, patience=0, learning_rate=1e-2)  # of one batch, the whole split
    history = distill_on_windows(Trainer(), "kd", KEYS, student, teacher, dataset, steps, **options).history
    assert (np.diff(history["loss"]) < 0).all()
    shared = FUTURE + 1 if frames else OBSERVED + FUTURE
    for member in range(SEEDS):
        batch = windows_of(dataset, member)
        mask = np.asarray(batch.mask)
        said, wanted = (forward_of(net)(of_member(net.params, member), batch) for net in (student, teacher))
        assert said.logits.shape[1] == (frames or OBSERVED) + FUTURE and wanted.logits.shape[1] == OBSERVED + FUTURE
        q, p = (softmax(np.asarray(logits, np.float64)[:, -shared:] / 2) for logits in (said.logits, wanted.logits))
        expected = {"teacher": 4 * (p * np.log(p / q)).sum(-1)[mask].mean()}
        if options:
            labels = np.asarray(batch.labels)
            own = softmax(np.asarray(said.logits, np.float64)[:, -FUTURE - 1 :])
            chosen = np.take_along_axis(own, np.maximum(labels, 0)[..., None], -1)[..., 0]
            expected["labels"] = -np.log(chosen[labels >= 0]).mean()
            gap = np.asarray(said.features, np.float64) - np.asarray(wanted.features, np.float64)
            expected["features"] = np.square(gap).mean(-1)[mask].mean()
            total = 0.5 * expected["teacher"] + 0.5 * expected["labels"] + 0.3 * expected["features"]
        for name, value in {**expected, "loss": total if options else expected["teacher"]}.items():
            np.testing.assert_allclose(history[name][member, 0], value, rtol=1e-4)


def relative(rows):
    """Distances between rows over their mean."""
    found = np.linalg.norm(rows[:, None] - rows, axis=-1)[~np.eye(len(rows), dtype=bool)]
    return found / found.mean()


def test_a_student_of_fewer_frames_learns_its_teachers_layers_and_relations_from_windows_in_runs(dataset):
    def untrained(module, frames=None):
        return initial_model(named_keys(KEYS, type(module).__name__), module, dataset.spec(["lidar"]), frames)

    student = untrained(GruStudent(embed=4, hidden=5, dropout=0.0, beams=BEAMS), 3)
    teacher = untrained(GruTeacher(embed=6, hidden=7, beams=BEAMS))
    learner = matched(KEYS, student, teacher, ["codes", "states"], FUTURE)
    weights = {"teacher": 0.5, "labels": 0.5, "codes": 2.0, "states": 3.0, "distances": 0.3}
    losses = {"codes": match_codes, "states": match_states, "distances": distance_relations}
    options = {"alpha": 0.5, "terms": {name: (weights[name], loss) for name, loss in losses.items()}}
    steps = FitConfig(epochs=3, batch_size=1000, patience=0, learning_rate=1e-2)  # of one batch, the whole split
    pair = learner, teacher, dataset.in_runs(3)
    end = distill_on_windows(Trainer(), "kd", KEYS, *pair, steps, **options, label_loss=focal)
    assert (np.diff(end.history["loss"]) < 0).all()
    for one, other in zip(jax.tree.leaves(end.params), jax.tree.leaves(learner.params), strict=True):
        assert np.abs(one - other).max() > 1e-3
    back = unmatched(dataclasses.replace(learner, params=end.best))
    assert jax.tree.structure(back.params) == jax.tree.structure(student.params)
    ask, ask_teacher = (jax.jit(forward_of(net)) for net in (learner, teacher))
    for member in range(SEEDS):
        batch, first = windows_of(dataset, member), {name: each[member, 0] for name, each in end.history.items()}
        said, wanted = (
            ask(of_member(learner.params, member), batch),
            ask_teacher(of_member(teacher.params, member), batch),
        )
        labels, mask = np.asarray(batch.labels), np.asarray(batch.mask)
        gaps = {layer: np.float64(said.layers[layer]) - wanted.layers[layer] for layer in ("codes", "states")}
        expected = {layer: np.square(gap)[mask].mean() for layer, gap in gaps.items()}
        distances, wanted_distances = (relative(np.float64(output.features)[mask]) for output in (said, wanted))
        expected["distances"] = np.square(distances - wanted_distances).mean()
        own = softmax(np.asarray(said.logits, np.float64)[:, -FUTURE - 1 :])
        chosen = np.take_along_axis(own, np.maximum(labels, 0)[..., None], -1)[..., 0][labels >= 0]
        expected["labels"] = -((1 - chosen) ** 2 * np.log(chosen)).mean()
        for name, value in expected.items():
            np.testing.assert_allclose(first[name], value, rtol=1e-4)
        np.testing.assert_allclose(first["loss"], sum(weights[name] * first[name] for name in weights), rtol=1e-4)


def test_a_streamed_dataset_gives_what_one_on_the_device_does(drives, dataset, model, tmp_path):
    store_drives(tmp_path / "kept", [drives])
    streamed = deal(KEYS, make_windows(open_drives(tmp_path / "kept"), OBSERVED, FUTURE))
    teacher, student = model("teacher", ["lidar", "other"]), model("student", ["lidar"], frames=3)
    ends = [distill_on_windows(Trainer(), "kd", KEYS, student, teacher, data, FIT) for data in (dataset, streamed)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *(end.params for end in ends))
    one, other = (summarize_on_dataset(Trainer(), teacher, data) for data in (dataset, streamed))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other)


def test_summaries_are_those_of_each_members_own_windows(dataset, model):
    teacher = model("teacher", ["lidar", "other"])
    found = summarize_on_dataset(Trainer(), teacher, dataset)
    assert isinstance(found, Metadata)
    for member in range(SEEDS):
        params, rows = (of_member(tree, member) for tree in (teacher.params, dataset.split.train))
        expected = summarize(forward_of(teacher), params, dataset.windows, rows, gather)
        own = of_member(found, member)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), own, expected)


def as_batch(scans):
    return sensor_batch(scans, FUTURE, "lidar")


@pytest.fixture(scope="module")
def generator():
    """Three for each member, with initial weights."""
    module = Generator(noise=5, hidden=4, frames=OBSERVED, rays=SENSORS["lidar"])
    keys = jax.random.split(jax.random.key(4), (SEEDS, 3))
    params = jax.vmap(jax.vmap(lambda key: module.init(key, jnp.zeros((1, 5)))))(keys)
    return Model(module, params, {"noise": (5,)})


def test_each_generator_is_trained_on_its_members_teacher(dataset, model, generator):
    teacher = model("teacher", ["lidar"])
    summaries = summarize_on_dataset(Trainer(), teacher, dataset)
    keys, config = jax.random.split(jax.random.key(5), (SEEDS, 3)), FitConfig(epochs=4, batch_size=8, patience=0)
    trained = train_generators(
        Trainer(), "generator", keys, generator, teacher, summaries, as_batch, GeneratorLoss(1.0), config
    )
    own = jax.tree.map(lambda leaf: leaf[1], (teacher.params, summaries))
    task = inversion_task(forward_of(teacher), generator.module, as_batch, GeneratorLoss(1.0), config)
    first = jax.tree.map(lambda leaf: leaf[1, 2], generator.params)
    expected = fit(task, keys[1, 2], first, own, all_rows(8)).params
    found = jax.tree.map(lambda leaf: leaf[1, 2], trained.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_sequences_of_all_generators_are_mixed(generator):
    keys, order = jax.random.split(jax.random.key(6), (SEEDS, 3)), jax.random.split(jax.random.key(7), SEEDS)
    made = generate_sequences(Trainer(), keys, order, generator, 20, as_batch)
    assert made.sensors["lidar"].shape == (SEEDS, 20, OBSERVED, SENSORS["lidar"])
    params = jax.tree.map(lambda leaf: leaf[0], generator.params)
    noise = jax.vmap(lambda key: jax.random.normal(key, (7, 5)))(keys[0])
    pool = 10 * np.asarray(jax.vmap(generator.module.apply)(params, noise)).reshape(21, -1)
    found = np.asarray(made.sensors["lidar"][0]).reshape(20, -1)
    near = np.abs(found[:, None] - pool).max(-1) < 1e-5
    assert (near.sum(1) == 1).all() and (near.sum(0) <= 1).all()
    assert len({number // 7 for number in near.argmax(1)[:7]}) > 1


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_student_of_three_frames_learns_from_sequences_that_go_on(model, generator, ahead):
    teacher, student = model("teacher", ["lidar"]), model("student", ["lidar"], frames=3)
    scans = jax.random.normal(jax.random.key(8), (SEEDS, 40, OBSERVED + ahead, SENSORS["lidar"]))
    sequences = jax.vmap(as_batch)(scans)
    one = FitConfig(epochs=1, batch_size=1000, patience=0, learning_rate=1e-9, final_learning_rate=0)
    end = distill_on_sequences(Trainer(), "dfkd", KEYS, student, teacher, sequences, one, last=8, ahead=ahead)
    for member in range(SEEDS):
        own = [of_member(tree, member) for tree in (student.params, teacher.params)]
        said = forward_of(student)(own[0], as_batch(scans[member, :, :OBSERVED])).logits[:, -FUTURE - 1 :]
        answers = [
            forward_of(teacher)(own[1], as_batch(scans[member, :, first : first + OBSERVED])).logits[:, -FUTURE - 1 :]
            for first in range(ahead + 1)
        ]
        slots = [
            sum(answers[first][:, slot - first] for first in range(min(slot, ahead) + 1)) / (min(slot, ahead) + 1)
            for slot in range(FUTURE + 1)
        ]
        expected = kl(said, jnp.stack(slots, 1))[:-8].mean()
        np.testing.assert_allclose(end.history["loss"][member, 0], expected, rtol=1e-4)


def test_features_are_answered_where_they_are_asked_for(dataset, model):
    teacher = model("teacher", ["lidar"])
    params, batch = of_member(teacher.params, 0), windows_of(dataset, 0)
    found = teacher_answers(forward_of(teacher), params, batch, len(batch.mask), select, layers=["features"])
    expected = forward_of(teacher)(params, batch)
    assert found.keys() == {"teacher_logits", "teacher_features"}
    np.testing.assert_allclose(found["teacher_logits"], expected.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["teacher_features"], expected.features, rtol=1e-5, atol=1e-6)
