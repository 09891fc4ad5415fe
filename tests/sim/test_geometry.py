"""Intersections by hand, from a start away from the origin too."""

import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.sim import Boxes, Walls
from beamkd.sim.geometry import ORIGIN, Point, corners, no_boxes, onto_walls, through_boxes

CAR = Boxes(jnp.array([[10.0, 2.0]]), jnp.array([[4.0, 2.0]]), jnp.array([np.pi / 2]))
"""From 9 to 11 m across the road, from 0 to 4 m along it."""

FRONT = Walls(jnp.array([[12.0, -4.0]]), jnp.array([[12.0, 4.0]]))


def line(*ends):
    """Steps to ends."""
    return Point(*jnp.array(ends, jnp.float32).T)


def test_corners_are_counter_clockwise_from_the_rear_right_one():
    expected = [(11, 0), (11, 4), (9, 4), (9, 0)]
    np.testing.assert_allclose(np.concatenate([np.stack(c, -1) for c in corners(CAR)]), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("start", "shares"), [(ORIGIN, (0.45, 0.55)), (Point(5.0, 1.0), (0.2, 0.3)), (Point(10.0, 1.0), (-0.05, 0.05))]
)
def test_a_line_is_in_a_box_between_two_shares_of_its_step(start, shares):
    found = through_boxes(start, line((20, 2)), CAR)
    np.testing.assert_allclose(np.ravel(found), shares, atol=1e-6)


def test_a_line_that_misses_a_box_leaves_before_it_enters():
    enter, leave = through_boxes(ORIGIN, line((20, -2), (0, 5), (5, 0)), CAR)
    assert (enter > leave)[0, :2].all()
    assert through_boxes(ORIGIN, line((1, 0)), no_boxes())[0].shape == (0, 1)


def test_a_line_meets_a_wall_within_its_ends_only():
    ends = line((24, 0), (24, 7), (24, 9), (-24, 0), (0, 3))
    share, within = onto_walls(ORIGIN, ends, FRONT)
    np.testing.assert_array_equal(within, [[True, True, False, True, False]])
    np.testing.assert_allclose(share[0, :4], [0.5, 0.5, 0.5, -0.5])
    assert not onto_walls(Point(6.0, 5.0), ends, FRONT)[1].any()
    np.testing.assert_allclose(onto_walls(Point(18.0, 0.0), ends, FRONT)[0][0, :4], [-0.25, -0.25, -0.25, 0.25])
