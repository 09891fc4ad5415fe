"""Baselines of one frame and of positions, against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from beamkd.models import (
    NearestNeighbours,
    OccupancyCnn,
    PositionNetwork,
    PositionTable,
    fit_neighbours,
    fit_table,
)
from beamkd.models.baselines import CELL, COLUMNS, ROWS, SPACING, go_on, occupancy

BEAMS = 9
RNG = np.random.default_rng(0)
PLACES = np.float32(RNG.uniform((0.8, -1.5), (1.1, 1.5), (60, 2)))
BEST = RNG.integers(0, BEAMS, 60).astype(np.int32)
VALID = RNG.random(60) < 0.8
ASKED = np.float32(RNG.uniform((0.7, -1.8), (1.2, 1.8), (20, 2)))


def ranked(votes):
    """Beams in order: more votes first, then nearer to the mean beam of the votes."""
    mean = votes @ np.arange(BEAMS) / votes.sum()
    return sorted(range(BEAMS), key=lambda beam: (-votes[beam], abs(beam - mean)))


def order(scores):
    return np.argsort(-np.asarray(scores), axis=-1, kind="stable")


@pytest.fixture(scope="module")
def neighbours():
    """Scores of the places that are asked for, by their nearest neighbours."""
    module = NearestNeighbours(neighbours=5, examples=60, beams=BEAMS)
    params = jax.jit(fit_neighbours)(PLACES, BEST, VALID)
    return jax.jit(lambda places: module.apply(params, places[:, None]).logits[:, 0])


def test_neighbours_are_those_of_a_tree_and_vote(neighbours):
    known, best = PLACES[VALID], BEST[VALID]
    extent = np.ptp(known, axis=0)
    _, found = cKDTree(known / extent).query(ASKED / extent, 5)
    expected = [ranked(np.bincount(best[row], minlength=BEAMS)) for row in found]
    assert len({tuple(row) for row in expected}) > 10
    for scores, wanted in zip(neighbours(ASKED), expected, strict=True):
        assert (np.diff(scores[np.array(wanted)]) < 1e-5).all()


def test_examples_that_only_fill_up_change_nothing(neighbours):
    kept = jax.jit(fit_neighbours)(PLACES[VALID], BEST[VALID], np.ones(VALID.sum(), bool))
    module = NearestNeighbours(neighbours=5, examples=int(VALID.sum()), beams=BEAMS)
    found = jax.jit(module.apply)(kept, ASKED[:, None]).logits[:, 0]
    np.testing.assert_allclose(found, neighbours(ASKED), atol=1e-6)


def test_the_table_counts_the_best_beams_of_each_cell_and_asks_the_nearest_where_there_are_none():
    bins = 6
    params = jax.jit(fit_table, static_argnames=("bins", "number"))(PLACES, BEST, VALID, bins=bins, number=BEAMS)
    known, best = PLACES[VALID], BEST[VALID]
    low, extent = known.min(0), np.ptp(known, axis=0)

    def cell(place):
        return np.clip(np.floor((place - low) / extent * bins), 0, bins - 1).astype(int)

    votes = np.zeros((bins, bins, BEAMS))
    for place, beam in zip(known, best, strict=True):
        votes[(*cell(place), beam)] += 1
    filled = np.argwhere(votes.sum(-1))
    empty = 0
    scores = jax.jit(PositionTable(bins=bins, beams=BEAMS).apply)(params, ASKED[:, None]).logits[:, 0]
    for place, found in zip(ASKED, scores, strict=True):
        distance = np.square(filled - cell(place)).sum(-1)
        near = filled[distance == distance.min()]
        empty += distance.min() > 0
        candidates = [votes[tuple(at)] for at in near]
        assert any((np.diff(found[np.array(ranked(own))]) < 1e-5).all() for own in candidates)
    assert 0 < empty < len(ASKED)


def test_a_place_is_asked_for_where_it_will_be(neighbours):
    places = np.float32([[[1.0, -0.5], [1.0, -0.4], [1.1, -0.1]]])
    found = jax.jit(go_on, static_argnums=1)(places, 2)
    np.testing.assert_allclose(found[0, 3:], [[1.15, 0.1], [1.2, 0.3]], atol=1e-6)
    np.testing.assert_array_equal(found[:, :3], places)
    still = jax.jit(go_on, static_argnums=1)(places[:, 2:], 2)
    np.testing.assert_allclose(still, np.repeat(places[:, 2:], 3, axis=1))
    module, params = PositionNetwork(hidden=(4, 4), beams=BEAMS), None
    params = jax.jit(module.init)(jax.random.key(0), places)
    whole = jax.jit(lambda: module.apply(params, places, future=2))()
    alone = jax.jit(lambda: module.apply(params, found))()
    np.testing.assert_allclose(whole.logits, alone.logits, atol=1e-6)
    last = jax.jit(lambda: module.apply(params, places, future=2, slots=3))()
    np.testing.assert_allclose(last.logits, whole.logits[:, 2:], atol=1e-6)


def test_a_grid_has_the_cells_that_rays_end_in():
    scans = RNG.uniform(0.2, 2.6, (3, 216)).astype(np.float32) * (RNG.random((3, 216)) < 0.2)
    expected = np.zeros((3, ROWS, COLUMNS))
    for number, scan in enumerate(scans):
        for ray in np.flatnonzero(scan):
            angle = SPACING * (ray - 108)
            place = np.floor(scan[ray] * np.array([np.cos(angle), np.sin(angle)]) / CELL).astype(int)
            row, column = place + np.array([0, COLUMNS // 2])
            if 0 <= row < ROWS and 0 <= column < COLUMNS:
                expected[number, row, column] = 1
    found = jax.jit(occupancy)(scans)
    assert 60 < expected.sum() < (scans > 0).sum()
    assert np.abs(found - expected).sum() <= 2  # a ray may end on a border
    assert not jax.jit(occupancy)(np.zeros((1, 216), np.float32)).any()


def test_the_occupancy_network_sees_one_frame_and_repeats_itself():
    module = OccupancyCnn(channels=(2, 3), hidden=4, beams=BEAMS)
    scans = np.float32(RNG.uniform(0.5, 1.5, (2, 3, 216)))
    stacked = jax.jit(jax.vmap(module.init, (0, None)))(jax.random.split(jax.random.key(0), 2), scans)
    apply = jax.jit(jax.vmap(lambda params, scans: module.apply(params, scans, future=2).logits, (0, None)))
    logits = apply(stacked, scans)
    assert logits.shape == (2, 2, 5, BEAMS)
    np.testing.assert_array_equal(logits[:, :, 3], logits[:, :, 2])
    np.testing.assert_array_equal(logits[:, :, 4], logits[:, :, 2])
    np.testing.assert_allclose(apply(stacked, scans[:, 2:])[:, :, -1], logits[:, :, -1], atol=1e-5)
    assert np.abs(logits[0, 0, 1] - logits[0, 0, 2]).max() > 1e-4
    params = jax.tree.map(lambda leaf: leaf[0], stacked)
    train = jax.jit(lambda key: module.apply(params, scans, train=True, rngs={"dropout": key}).logits)
    dropped = train(jax.random.key(0))
    assert np.abs(dropped - logits[0, :, :3]).max() > 1e-4
    gradients = jax.jit(jax.grad(lambda params: jnp.sin(module.apply(params, scans).logits).sum()))(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
