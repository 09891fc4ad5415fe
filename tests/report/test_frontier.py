import numpy as np
import pytest

from beamkd.report.frontier import frontier


@pytest.mark.parametrize(
    ("costs", "values", "expected"),
    [
        ([3, 1, 2, 4], [30, 10, 5, 40], [1, 0, 3]),  # a dearer one that is worse is left out
        ([1, 2, 3], [9, 9, 8], [0]),  # nor does a dearer one as good belong to it
        ([2, 2, 1, 2], [5, 7, 1, 6], [2, 1]),  # of those that cost the same the best
        ([2, 2, 1], [7, 7, 1], [2, 0]),  # of two alike one
        ([5], [-1], [0]),
        ([3, 2, 1], [1, 2, 3], [2]),
    ],
)
def test_the_frontier_by_hand_in_the_order_of_costs(costs, values, expected):
    np.testing.assert_array_equal(frontier(np.array(costs, float), np.array(values, float)), expected)


def test_no_point_is_at_most_as_dear_and_as_good_as_one_of_the_frontier_and_every_other_has_one():
    rng = np.random.default_rng(0)
    costs, values = rng.integers(0, 12, (2, 40)).astype(float)
    found = frontier(costs, values)
    for point in range(40):
        beaten = (costs <= costs[point]) & (values >= values[point])
        better = beaten & ((costs < costs[point]) | (values > values[point]))
        if point in found:
            assert not better.any()
        else:
            assert beaten[found].any()
