"""Ranges against an independent program in NumPy: polygons cut by lines, one ray and one edge at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.sim import RAYS, Boxes, Street, Walls, cast_rays, lidar_scan, simulate_drive

scan = jax.jit(lidar_scan)


def boxes(*rows):
    """Rows of x, y, length, width, heading."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(jnp.array(table[:, :2]), jnp.array(table[:, 2:4]), jnp.array(table[:, 4]))


def polygon(x, y, length, width, heading):
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * [length / 2, width / 2]
    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    return corners @ turn.T + [x, y]


def edge_range(bearing, a, b):
    """Where a ray from the origin crosses the edge from a to b, by solving two equations; infinity if not."""
    matrix = np.array([[np.cos(bearing), a[0] - b[0]], [np.sin(bearing), a[1] - b[1]]])
    if abs(np.linalg.det(matrix)) < 1e-12:
        return np.inf
    t, s = np.linalg.solve(matrix, a)
    return t if t > 0 and 0 <= s <= 1 else np.inf


def reference(rows, walls=()):
    edges = [(c[i], c[(i + 1) % 4]) for c in (polygon(*row) for row in rows) for i in range(4)]
    edges += [(np.array(a), np.array(b)) for a, b in walls]
    return np.array([min(edge_range(r, a, b) for a, b in edges) for r in np.asarray(RAYS, np.float64)])


def agree(found, expected):
    # A ray that just grazes a corner may go either way in float32; none is nearer than 1e-5 rad in these scenes.
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    hit = np.isfinite(expected)
    assert hit.any()
    np.testing.assert_allclose(np.asarray(found)[hit], expected[hit], atol=1e-4)


def test_straight_ahead_the_range_is_that_of_the_near_side():
    ranges = cast_rays(jnp.array([0.0]), boxes((10.0, 0.0, 4.0, 2.0, np.pi / 2)))
    np.testing.assert_allclose(ranges, [9.0], atol=1e-5)


@pytest.mark.parametrize(
    "rows",
    [
        [(9.7, 0.3, 4.6, 1.9, np.pi / 2)],
        [(9.7, -6.3, 4.6, 1.9, 1.4)],
        [
            (8.0, 3.0, 4.0, 2.0, 0.3),
            (12.0, -4.0, 6.0, 2.2, 2.0),
            (6.3, 2.0, 1.0, 1.0, -0.7),
            (15.0, 9.0, 3.0, 1.0, 5.0),
        ],
    ],
)
def test_ranges_of_boxes_are_exact_at_any_heading(rows):
    agree(cast_rays(RAYS, boxes(*rows)), reference(rows))


def test_walls_are_hit_where_they_stand_and_nowhere_else():
    rows = [(8.0, 1.0, 4.0, 2.0, 1.2)]
    ends = [((16.0, -5.05), (16.0, 9.03)), ((5.0, 6.01), (9.0, 7.02)), ((-3.0, -20.0), (-3.0, 20.0))]
    walls = Walls(jnp.array([a for a, _ in ends]), jnp.array([b for _, b in ends]))
    agree(cast_rays(RAYS, boxes(*rows), walls), reference(rows, ends))


def test_what_is_behind_the_scanner_is_not_hit():
    assert np.isinf(cast_rays(RAYS, boxes((-9.0, 0.0, 4.0, 2.0, 0.0)))).all()


def test_no_boxes_and_no_walls_return_nothing():
    assert np.isinf(cast_rays(RAYS, boxes())).all()


def test_rays_are_those_of_deepsense():
    assert RAYS.shape == (216,)
    np.testing.assert_allclose(np.rad2deg(RAYS[[0, 108, 215]]), [-64.8, 0.0, 64.2], atol=1e-4)


def test_casting_gives_the_same_under_jit_and_vmap():
    rows = [(9.7, y, 4.6, 1.9, 1.5) for y in (-4.0, 0.0, 3.0)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *[boxes(row) for row in rows])
    found = jax.jit(jax.vmap(lambda b: cast_rays(RAYS, b)))(batch)
    assert found.shape == (3, 216)
    for i, row in enumerate(rows):
        np.testing.assert_allclose(found[i], cast_rays(RAYS, boxes(row)), rtol=1e-6)


CLEAN = {"noise": 0.0, "dropout": 0.0, "clutter": 0.0}
FRONT = Walls(jnp.array([[12.0, -40.0]]), jnp.array([[12.0, 40.0]]))


def test_an_empty_street_with_walls_scans_as_zero():
    assert (scan(jax.random.key(0), boxes(), FRONT, **CLEAN) == 0).all()


def test_a_car_in_front_of_a_wall_stays_and_one_behind_it_is_hidden():
    near, far = boxes((9.0, 0.0, 4.0, 2.0, np.pi / 2)), boxes((15.0, 0.0, 4.0, 2.0, np.pi / 2))
    ranges = np.asarray(scan(jax.random.key(0), near, FRONT, **CLEAN))
    exact = np.asarray(cast_rays(RAYS, near))
    np.testing.assert_allclose(ranges, np.where(np.isfinite(exact), exact, 0.0), rtol=1e-6)
    assert (ranges > 0).any()
    assert (scan(jax.random.key(0), far, FRONT, **CLEAN) == 0).all()
    assert (scan(jax.random.key(0), far, **CLEAN) > 0).any()


def test_nothing_returns_from_beyond_the_maximum_range():
    car = boxes((9.0, 0.0, 4.0, 2.0, np.pi / 2))
    ranges = np.asarray(scan(jax.random.key(0), car, max_range=8.05, **CLEAN))
    assert 0 < (ranges > 0).sum() < (np.asarray(cast_rays(RAYS, car)) < np.inf).sum()
    assert ranges.max() <= 8.05


def test_noise_dropouts_and_clutter_come_as_often_and_as_large_as_asked():
    car = boxes((9.0, 0.0, 20.0, 2.0, np.pi / 2))
    keys = jax.random.split(jax.random.key(1), 2000)
    ranges = np.asarray(jax.jit(jax.vmap(lambda k: scan(k, car)))(keys))
    exact = np.asarray(cast_rays(RAYS, car))
    hit = np.isfinite(exact)
    seen, empty = ranges[:, hit], ranges[:, ~hit]
    assert abs((seen == 0).mean() - 0.05) < 0.002
    assert abs((empty > 0).mean() - 0.003) < 0.0005
    error = (seen - exact[hit])[seen > 0]
    assert abs(error.std() - 0.03) < 0.0005 and abs(error.mean()) < 0.0005
    false = empty[empty > 0]
    assert false.min() > 2 and false.max() < 16 and abs(false.mean() - 9) < 0.6


def test_the_same_key_gives_the_same_scan_and_another_key_another():
    car = boxes((9.0, 0.0, 4.0, 2.0, np.pi / 2))
    one, again, other = (np.asarray(scan(jax.random.key(k), car)) for k in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_rays_beyond_the_view_are_empty_and_others_as_they_were():
    drive = jax.jit(simulate_drive, static_argnums=1)
    whole = np.asarray(drive(jax.random.key(0), Street()).sensors["lidar"])
    narrow = np.asarray(drive(jax.random.key(0), Street(lidar_view=30.0)).sensors["lidar"])
    beyond = np.abs(np.rad2deg(RAYS)) > 30
    assert (whole[:, beyond] > 0).any() and not narrow[:, beyond].any()
    np.testing.assert_array_equal(narrow[:, ~beyond], whole[:, ~beyond])
