import itertools
import math

import numpy as np
import pytest
from scipy import stats

from beamkd.claims import FEWEST_SEEDS, METRICS, Claim, interval, judge, judge_all, verdict

SHARES = np.random.default_rng(7).normal(0.01, 0.02, (12, 3))


def rows(*seeds):
    """A method with these rows of all metrics."""
    return dict.fromkeys(METRICS, [list(seed) for seed in seeds])


def seeds(*row, count=5):
    """A method with the same row for so many seeds."""
    return rows(*[row] * count)


def bca(values, resamples=20000):
    """Efron's interval (1987), written out: bias from the share of means below, acceleration from a jackknife."""
    rng, count = np.random.default_rng(1), len(values)
    means = values[rng.integers(0, count, (resamples, count))].mean(1)
    bias = stats.norm.ppf(((means < values.mean()).mean() + (means <= values.mean()).mean()) / 2)
    left_out = (values.sum() - values) / (count - 1)
    gap = left_out.mean() - left_out
    acceleration = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5)
    score = bias + stats.norm.ppf([0.025, 0.975])
    return np.quantile(means, stats.norm.cdf(bias + score / (1 - acceleration * score)))


@pytest.mark.parametrize("column", range(3))
def test_interval_is_efrons(column):
    values = SHARES[:, column]
    found = interval(values)
    assert found == pytest.approx(bca(values), abs=0.03 * np.ptp(found))


def test_interval_of_skewed_differences_is_skewed_with_them():
    values = np.array([0.0, 0.0, 0.01, 0.01, 0.02, 0.02, 0.03, 0.2])
    low, high = interval(values)
    assert [low, high] == pytest.approx(bca(values), rel=0.05)
    assert high - values.mean() > 2 * (values.mean() - low)


def test_interval_of_few_seeds_is_of_all_their_resamples():
    low, high = interval([0.0, 1.0, 2.0, 3.0])
    means = np.mean(list(itertools.product([0.0, 1.0, 2.0, 3.0], repeat=4)), axis=1)
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.1)  # symmetric: no bias, no skew


def test_every_column_has_the_interval_that_it_has_alone():
    low, high = interval(SHARES)
    alone = [interval(SHARES[:, column]) for column in range(3)]
    assert low.shape == high.shape == (3,)
    np.testing.assert_allclose(np.transpose([low, high]), alone, atol=1e-4)


def test_interval_moves_grows_and_turns_with_the_differences():
    low, high = np.array(interval(SHARES))
    np.testing.assert_allclose(interval(3 * SHARES + 0.5), [3 * low + 0.5, 3 * high + 0.5], atol=1e-4)
    np.testing.assert_allclose(interval(-SHARES), [-high, -low], atol=1e-4)


def test_constant_differences_give_that_constant_beside_others_that_vary():
    values = np.stack([np.full(12, 0.125), SHARES[:, 0], np.zeros(12)], 1)
    low, high = interval(values)
    assert (low[0], high[0], low[2], high[2]) == (0.125, 0.125, 0, 0)
    np.testing.assert_allclose([low[1], high[1]], interval(SHARES[:, 0]), atol=1e-4)


@pytest.mark.parametrize("shape", [(1,), (1, 4)])
def test_a_single_seed_bounds_nothing(shape):
    low, high = interval(np.full(shape, 0.3))
    assert low.shape == high.shape == shape[1:]
    assert (low == -np.inf).all() and (high == np.inf).all()


def test_same_result_each_time_whatever_was_drawn_before():
    before = np.array(interval(SHARES))
    np.random.default_rng().normal(size=100)
    np.testing.assert_array_equal(interval(SHARES), before)


@pytest.mark.parametrize(("seeds", "least", "most"), [(20, 0.86, 0.99), (3, 0.55, 0.85)])
def test_interval_holds_the_mean_as_often_as_it_says_with_many_seeds_and_less_often_with_few(seeds, least, most):
    low, high = interval(np.random.default_rng(3).normal(size=(seeds, 100)))
    assert least <= ((low < 0) & (high > 0)).mean() <= most


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (0.001, 0.02, 0.0, "confirmed"),
        (-0.02, -0.001, 0.0, "refuted"),
        (-0.01, 0.01, 0.0, "open"),
        (0.0, 0.01, 0.0, "open"),
        (-0.01, 0.0, 0.0, "open"),
        (0.0, 0.0, 0.0, "open"),
        (0.0, 0.0, 0.01, "confirmed"),
        (-0.0099, 0.0, 0.01, "confirmed"),
        (-0.01, 0.05, 0.01, "open"),
        (-0.05, -0.01, 0.01, "open"),
        (-0.05, -0.0101, 0.01, "refuted"),
        (-math.inf, math.inf, 1.0, "open"),
    ],
)
def test_verdict_at_the_edges_of_a_margin(low, high, margin, expected):
    assert verdict(low, high, margin) == expected


def test_a_claim_is_judged_over_seeds_and_slots():
    methods = {"ours": rows((0.5, 0.25), (0.75, 0.5), (0.5, 0.5)), "theirs": rows((0.25, 0.25), (0.25, 0.5), (0.5, 0))}
    found = judge(Claim("x", "Ours is better.", "ours", "theirs"), methods, "top5")
    assert (found["claim"], found["statement"], found["metric"]) == ("x", "Ours is better.", "top5")
    assert (found["better"], found["worse"], found["margin"], found["seeds"]) == ("ours", "theirs", 0.0, 3)
    assert found["difference"] == pytest.approx((0.25 + 0 + 0.5 + 0 + 0 + 0.5) / 6)
    assert (found["low"], found["high"]) == interval(np.array([0.125, 0.25, 0.25]))  # of the means over slots
    assert found["verdict"] == "open"  # three seeds are too few, whatever their interval
    np.testing.assert_allclose(found["slots"]["difference"], [0.25, 0.5 / 3])
    slots = interval(np.array([[0.25, 0], [0.5, 0], [0, 0.5]]))
    np.testing.assert_allclose([found["slots"]["low"], found["slots"]["high"]], slots)


def test_seeds_are_paired():
    ours = np.random.default_rng(5).integers(16, 48, (20, 4)) / 64  # seeds differ far more than methods do
    methods = {"ours": rows(*ours + 1 / 64), "theirs": rows(*ours)}
    found = judge(Claim("x", "", "ours", "theirs"), methods, "dba")
    assert (found["low"], found["high"], found["verdict"]) == (1 / 64, 1 / 64, "confirmed")


@pytest.mark.filterwarnings("error")
def test_differences_that_are_equal_up_to_rounding_are_constant():
    values = np.full(20, 0.1)
    values[1] = np.nextafter(0.1, 1)
    np.testing.assert_allclose(interval(values), (0.1, 0.1))


def test_a_metric_is_judged_by_itself():
    ahead, behind = seeds(0.75), seeds(0.5)
    methods = {"ours": {**ahead, "power_ratio": behind["top1"]}, "theirs": {**behind, "power_ratio": ahead["top1"]}}
    claim = Claim("x", "", "ours", "theirs")
    assert [judge(claim, methods, metric)["verdict"] for metric in METRICS] == ["confirmed"] * 3 + ["refuted"]


def test_pairs_are_judged_by_the_difference_of_their_differences():
    varied = rows(*[(0.75,), (0.5,)] * 3)
    methods = {"a": seeds(0.75, count=6), "b": seeds(0.5, count=6), "c": varied, "d": varied}
    found = judge(Claim("x", "", ("a", "b"), ("c", "d")), methods, "top1")
    assert (found["difference"], found["low"], found["high"]) == (0.25, 0.25, 0.25)
    assert (found["better"], found["worse"]) == ("a − b", "c − d")
    assert judge(Claim("x", "", ("c", "d"), ("a", "b")), methods, "top1")["verdict"] == "refuted"


@pytest.mark.parametrize(
    "sides", [("a", "gone"), ("gone", "a"), (("a", "gone"), ("a", "b")), (("a", "b"), ("a", "gone"))]
)
def test_a_claim_about_a_missing_method_is_not_judged(sides):
    methods = {"a": rows((0.5,), (0.5,)), "b": rows((0.5,), (0.25,))}
    assert judge(Claim("x", "", *sides), methods, "top1") is None


def test_a_margin_turns_a_small_loss_into_a_par():
    methods = {"ours": seeds(0.5), "theirs": seeds(0.515625)}
    for margin, expected in ((0.0, "refuted"), (0.01, "refuted"), (0.015625, "open"), (0.02, "confirmed")):
        assert judge(Claim("x", "", "ours", "theirs", margin), methods, "top1")["verdict"] == expected


@pytest.mark.parametrize(("count", "expected"), [(FEWEST_SEEDS - 1, "open"), (FEWEST_SEEDS, "confirmed")])
def test_few_seeds_leave_every_claim_open(count, expected):
    methods = {"ours": seeds(0.75, count=count), "theirs": seeds(0.5, count=count)}
    assert judge(Claim("x", "", "ours", "theirs"), methods, "top1")["verdict"] == expected


def test_methods_of_unequal_seeds_are_refused():
    with pytest.raises(ValueError, match=r"\(5, 1\) and \(1, 1\)"):
        judge(Claim("x", "", "a", "b"), {"a": seeds(0.5), "b": seeds(0.5, count=1)}, "top1")


def test_all_claims_are_judged_by_all_metrics_but_those_of_methods_that_are_not_there():
    found = judge_all([Claim("x", "", "a", "b"), Claim("y", "", "a", "gone")], {"a": seeds(0.5), "b": seeds(0.5)})
    assert [(claim["claim"], claim["metric"]) for claim in found] == [("x", metric) for metric in METRICS]


def test_one_seed_leaves_every_claim_open():
    found = judge(Claim("x", "", "a", "b", 0.5), {"a": rows((0.9, 0.9)), "b": rows((0.1, 0.2))}, "top1")
    assert (found["verdict"], found["seeds"], found["difference"]) == ("open", 1, pytest.approx(0.75))
