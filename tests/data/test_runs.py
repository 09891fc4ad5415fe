"""Windows in runs: every window once, the same batches and answers, drives' ends and gaps, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Drives, InputError, Rows, Shared
from beamkd.data import deal, forward_of, gather, initial_model, make_windows
from beamkd.data.runs import gather_runs, make_runs
from beamkd.distill import distillation_task, teacher_answers
from beamkd.models import GruStudent, SensorStudent
from beamkd.training import all_rows, batches

LENGTHS = (9, 14, 5, 23)
"""Frames of the drives; the third is too short for a window of seven."""


@pytest.fixture(scope="module")
def windows():
    drive = np.repeat(np.arange(1, 5), LENGTHS)
    slot = np.concatenate([np.arange(length) for length in LENGTHS])
    slot[40:] += 1  # a frame was dropped in the last drive
    rng, count = np.random.default_rng(0), len(drive)
    sensors = {"gps": rng.normal(size=(count, 2)).astype(np.float32)}
    power = rng.random((count, 6)).astype(np.float32)
    return make_windows(Drives(sensors, power, sensors["gps"], drive.astype(np.int32), slot.astype(np.int32)), 7, 3)


@pytest.mark.parametrize("length", [1, 4, 100])
def test_runs_have_every_window_once_and_none_across_a_gap(windows, length):
    runs = make_runs(windows, length)
    found = [first + step for first, count in zip(runs.first, runs.count, strict=True) for step in range(int(count))]
    assert found == list(range(len(windows)))
    assert int(runs.count.max()) <= length
    for first, count in zip(np.asarray(runs.first), np.asarray(runs.count), strict=True):
        begin = np.asarray(windows.observed)[first : first + count, 0]
        assert (np.diff(begin) == 1).all() and len(set(np.asarray(windows.drive)[first : first + count])) == 1


def test_a_batch_of_runs_is_that_of_their_windows_with_each_frame_once(windows):
    runs = make_runs(windows, 4)
    rows = Rows(jnp.array([len(runs) - 1, 0, 2, 0]), jnp.array([True, True, True, False]))
    batch = jax.jit(gather_runs)(runs, rows)
    seen = batch.sensors["gps"]
    assert isinstance(seen, Shared) and seen.shape == (16, 7, 2) and seen.frames.shape == (4 * 10, 2)
    assert batch.mask[12:].sum() == 0 and batch.mask[:12].sum() == sum(int(runs.count[row]) for row in (-1, 0, 2))
    index = (np.asarray(runs.first)[np.asarray(rows.index)][:, None] + np.arange(4)).reshape(-1)
    expected = gather(windows, Rows(jnp.minimum(index, len(windows) - 1), batch.mask))
    real = np.asarray(batch.mask)
    np.testing.assert_array_equal(seen.frames[seen.rows][real], expected.sensors["gps"][real])
    for name in ("labels", "power"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))


def of_gps(module, frames):
    """A network as a function of batches, and its weights."""
    model = initial_model(jax.random.key(0)[None], module, {"gps": jax.ShapeDtypeStruct((7, 2), jnp.float32)}, frames)
    return forward_of(model), jax.tree.map(lambda leaf: leaf[0], model.params)


def test_a_network_of_fewer_frames_says_the_same_of_runs_as_of_their_windows(windows):
    network, params = of_gps(GruStudent(embed=4, hidden=5, beams=6), 3)
    runs = make_runs(windows, 4)
    batch = jax.jit(gather_runs)(runs, all_rows(len(runs)))
    found, expected = (jax.jit(network)(params, each) for each in (batch, gather(windows, all_rows(len(windows)))))
    assert batch.mask.sum() == len(windows)
    np.testing.assert_allclose(found.logits[batch.mask], expected.logits, atol=1e-6)
    np.testing.assert_allclose(found.layers["codes"][batch.mask], expected.layers["codes"], atol=1e-6)


def test_a_teacher_answers_on_runs_what_it_does_on_their_windows_and_students_get_their_own(windows, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATION_BATCH", 3)
    teacher, params = of_gps(SensorStudent(("gps",), channels=(3, 2), embed=4, hidden=5, beams=6), None)
    runs = make_runs(windows, 4)
    assert len(runs) % 3 > 0
    ask = jax.jit(lambda: teacher_answers(teacher, params, runs, len(runs), gather_runs, ["codes", "features"]))
    answers, real = ask(), (np.arange(4) < np.asarray(runs.count)[:, None]).reshape(-1)
    output = jax.jit(teacher)(params, gather(windows, all_rows(len(windows))))
    expected = {"logits": output.logits, "codes": output.layers["codes"], "features": output.features}
    for name, each in expected.items():
        assert answers[f"teacher_{name}"].shape == (4 * len(runs), *each.shape[1:])
        np.testing.assert_allclose(answers[f"teacher_{name}"][real], each, atol=1e-6)

    rows = Rows(jnp.array([len(runs) - 1, 1, 0]), jnp.array([True, True, False]))
    batch, own = jax.jit(distillation_task(teacher, gather_runs).take)((runs, answers), rows)
    said = jax.jit(teacher)(params, batch)
    np.testing.assert_allclose(own["teacher_logits"], said.logits, atol=1e-6)
    np.testing.assert_allclose(own["teacher_features"], said.features, atol=1e-6)


def test_a_dataset_in_runs_deals_out_the_same_drives(windows):
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    many = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 3), windows.frames)
    many = many.replace(drive=many.drive + 4 * (jnp.arange(len(many.drive)) // len(windows.frames.drive)))
    windows = make_windows(many, 7, 3)
    dataset = deal(keys, windows)
    runs = dataset.in_runs(4)
    source = runs.source(["gps"])
    each_windows, each_runs = (jax.vmap(take, (None, 0)) for take in (gather, gather_runs))
    take = jax.jit(lambda own, rows: (each_windows(windows, own), each_runs(source, rows)))
    for part in ("train", "val", "test"):
        own, rows = getattr(dataset.split, part), getattr(runs.split, part)
        expected, found = take(own, rows)
        for member in range(3):
            there, wanted = np.asarray(found.mask[member]), np.asarray(own.mask[member])
            assert there.sum() == wanted.sum()
            np.testing.assert_array_equal(
                np.asarray(found.labels)[member, there], np.asarray(expected.labels)[member, wanted]
            )
    assert runs.windows is dataset.windows


def test_runs_of_no_window_are_refused(windows):
    with pytest.raises(InputError, match="1 or more windows"):
        make_runs(windows, 0)
