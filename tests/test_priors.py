"""Sequences without a generator: their ranges, and that blobs are of one piece and move steadily."""

import jax
import numpy as np
import pytest

from beamkd.priors import FARTHEST, moving_blobs, sparse_noise, uniform_noise


@pytest.mark.parametrize("make", [uniform_noise, sparse_noise, moving_blobs])
def test_shape_range_and_key(make):
    scans = jax.jit(make, static_argnums=(1, 2, 3))(jax.random.key(0), 30, 5, 40)
    assert scans.shape == (30, 5, 40)
    assert 0 <= scans.min() < scans.max() <= FARTHEST
    assert not np.array_equal(scans, make(jax.random.key(1), 30, 5, 40))
    assert len(np.unique(np.asarray(scans).reshape(30, -1), axis=0)) > 25


def test_noise_is_uniform_and_its_sparse_kind_mostly_zero():
    dense, sparse = (np.asarray(make(jax.random.key(0), 50)) for make in (uniform_noise, sparse_noise))
    np.testing.assert_allclose([dense.mean(), dense.var()], [FARTHEST / 2, FARTHEST**2 / 12], rtol=0.02)
    np.testing.assert_allclose((sparse > 0).mean(), 0.1, atol=0.01)
    np.testing.assert_allclose(sparse[sparse > 0].mean(), FARTHEST / 2, rtol=0.02)


def test_blobs_keep_their_range_and_move_steadily():
    scans = np.asarray(moving_blobs(jax.random.key(2), 200))
    single = [
        scan for scan in scans if len(np.unique(scan)) == 2 and (scan[:, [0, -1]] == 0).all() and scan.any(1).all()
    ]
    assert len(single) > 30
    for scan in single:
        rays = [np.flatnonzero(frame) for frame in scan]
        assert all(len(seen) == seen[-1] - seen[0] + 1 for seen in rays)
        moves = np.diff([seen.mean() for seen in rays])
        assert np.ptp(moves) <= 2 and np.abs(moves).max() <= 7
    assert np.mean([len(np.unique(scan)) > 2 for scan in scans]) > 0.1
