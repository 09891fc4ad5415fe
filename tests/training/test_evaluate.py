"""Evaluation in batches against one go, and the count of operations against the matrix products worked out by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import Batch, Output, Rows
from beamkd.models import CnnGruTeacher, GruTeacher
from beamkd.training import (
    all_rows,
    batches,
    dba,
    evaluate,
    flops,
    map_batches,
    mean_over_labels,
    measure,
    power_loss_db,
    power_ratio,
    score_batch,
    sums_by_drive,
    supervised_task,
    top_k,
)

WINDOWS, STEPS, SLOTS, BEAMS = 11, 5, 3, 8


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    power = rng.random((WINDOWS, SLOTS, BEAMS)).astype(np.float32)
    labels = power.argmax(-1)
    missing = rng.random((WINDOWS, SLOTS)) < 0.3
    return {
        "logits": jnp.asarray(rng.normal(size=(WINDOWS, STEPS, BEAMS)), jnp.float32),
        "labels": jnp.asarray(np.where(missing, -100, labels)),
        "power": jnp.asarray(np.where(missing[..., None], 0, power)),
    }


def take(data, rows):
    """A batch, with labels and powers missing in padded rows; its 'sensor' is the logits to predict."""
    there = rows.mask[:, None]
    return Batch(
        sensors={"logits": data["logits"][rows.index]},
        labels=jnp.where(there, data["labels"][rows.index], -100),
        power=jnp.where(there[..., None], data["power"][rows.index], 0),
        mask=rows.mask,
    )


def forward(params, batch, key=None):
    assert key is None, "evaluation must be without dropout"
    return Output(logits=params * batch.sensors["logits"], features=jnp.zeros((1, 1)))


@pytest.fixture(params=[1, 4, 11, 512])
def batch_size(request, monkeypatch):
    monkeypatch.setattr(batches, "EVALUATION_BATCH", request.param)
    return request.param


def test_beams_are_those_of_current_slots_in_the_order_of_the_rows(data, batch_size):
    rows = Rows(jnp.array([[5, 2, 7, 0, 9]]), jnp.array([[True, True, False, True, True]]))
    score = map_batches(functools.partial(score_batch, forward), data, take)
    scores = score(jnp.array([2.0]), rows)
    found = scores.beams.reshape(-1)[:5][np.asarray(rows.mask[0])]
    np.testing.assert_array_equal(found, data["logits"][np.array([5, 2, 0, 9]), -SLOTS].argmax(-1))
    labelled = (data["labels"][np.array([5, 2, 0, 9])] >= 0).sum(0)
    np.testing.assert_array_equal(scores.counts["top1"][0].sum(0), labelled)


def test_all_metrics_are_those_of_one_go_whatever_the_batches_and_the_padding(data, batch_size):
    logits, labels, power = data["logits"][:, -SLOTS:], data["labels"], data["power"]
    expected = {
        "top1": top_k(logits, labels, 1),
        "top2": top_k(logits, labels, 2),
        "top3": top_k(logits, labels, 3),
        "top5": top_k(logits, labels, 5),
        "dba": dba(logits, labels),
        "power_ratio": power_ratio(logits, power),
        "power_loss_db": power_loss_db(logits, power),
        "power_ratio_top3": power_ratio(logits, power, 3),
        "power_ratio_top5": power_ratio(logits, power, 5),
    }
    padded = Rows(jnp.arange(WINDOWS + 4) % WINDOWS, jnp.arange(WINDOWS + 4) < WINDOWS)
    run = jax.jit(lambda rows: evaluate(forward, 2.0, data, rows, take))
    for rows in (all_rows(WINDOWS), padded):
        found = run(rows)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert value.shape == (SLOTS,)
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_each_window_is_scored_alone_and_summed_by_its_drive(data, batch_size):
    order, drive = np.array([5, 2, 7, 0, 9, 10]), np.array([3, 3, 8, 8, 8, 5, 5, 9, 9, 9, 9])
    rows = Rows(order[None], np.array([[True, True, False, True, True, True]]))
    scores = map_batches(functools.partial(score_batch, forward), data, take)(jnp.array([2.0]), rows)
    alone = jax.tree.map(lambda leaf: np.asarray(leaf[0]), (scores, rows))
    sums, counts = sums_by_drive(*alone, drive, np.array([3, 5, 8, 9]))
    chosen = order[rows.mask[0]]
    logits, labels, power = (np.asarray(data[name]) for name in ("logits", "labels", "power"))
    best = logits[chosen, -SLOTS:].argmax(-1)
    for number, place in {3: 0, 5: 1, 8: 2, 9: 3}.items():
        own, labelled = (drive[chosen] == number)[:, None], labels[chosen] >= 0
        hits = (best == labels[chosen]) & labelled
        swept = np.take_along_axis(power[chosen], best[..., None], -1)[..., 0] / np.maximum(power[chosen].max(-1), 1e-9)
        np.testing.assert_array_equal(sums["top1"][place], (hits & own).sum(0))
        np.testing.assert_array_equal(counts["dba"][place], (labelled & own).sum(0))
        np.testing.assert_allclose(sums["power_ratio"][place], (swept * own).sum(0), rtol=1e-5)
        np.testing.assert_array_equal(counts["power_ratio"][place], ((power[chosen].max(-1) > 0) & own).sum(0))


def test_measure_looks_at_labels_and_powers_alone(data):
    batch = take(data, all_rows(WINDOWS)).replace(sensors=None, mask=None)
    found = measure(data["power"], batch)
    np.testing.assert_array_equal(found["top1"], 1)
    np.testing.assert_array_equal(found["power_loss_db"], 0)


def test_the_supervised_loss_is_the_mean_cross_entropy_over_labelled_slots(data):
    rows = Rows(jnp.arange(6), jnp.arange(6) < 4)
    task = supervised_task(lambda params, batch, key: Output(params * batch.sensors["logits"], None), take)
    total, parts = jax.jit(task.loss)(0.5, task.take(data, rows), None)
    logits = 0.5 * np.asarray(data["logits"], np.float64)[:4, -SLOTS:]
    labels = np.asarray(data["labels"])[:4]
    surprise = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.maximum(labels, 0)[..., None], -1)[..., 0]
    np.testing.assert_allclose(total, surprise[labels >= 0].mean(), rtol=1e-5)
    assert parts == {"labels": total}


def test_a_mean_over_labels_takes_any_loss_and_the_last_slots_of_the_logits(data):
    mean = mean_over_labels(lambda logits, labels: logits[..., 0] * 10)
    logits, labels = data["logits"], np.asarray(data["labels"])
    expected = 10 * np.asarray(logits)[:, -SLOTS:, 0][labels >= 0].mean()
    np.testing.assert_allclose(mean(logits, labels), expected, rtol=1e-5)


def count_flops(module, frames, future):
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 1, 216)))
    return flops(lambda params, scans: module.apply(params, scans, future=future).logits, params, frames)


def test_operations_of_a_gru_network_are_its_matrix_products_and_little_more():
    batch, seen, steps = 4, 8, 11
    encode = (batch * seen + 1) * 216 * 64
    recur = batch * steps * (64 + 128) * 3 * 128
    read_out = batch * steps * 128 * 64
    products = 2 * (encode + recur + read_out)
    found = count_flops(GruTeacher(), jax.ShapeDtypeStruct((batch, seen, 216), jnp.float32), future=3)
    assert products <= found <= 1.1 * products


def test_operations_of_a_convolutional_network_are_its_matrix_products_and_little_more():
    batch, seen, steps = 4, 8, 11
    encode = (batch * seen + 1) * (106 * 5 * 16 + 51 * 5 * 16 * 32 + 51 * 32 * 64)
    recur = batch * steps * (64 + 128) * 3 * 128
    read_out = batch * steps * 128 * 64
    products = 2 * (encode + recur + read_out)
    found = count_flops(CnnGruTeacher(), jax.ShapeDtypeStruct((batch, seen, 216), jnp.float32), future=3)
    assert products <= found <= 1.1 * products
