"""Intervals against the analysis of variance and Student's t, worked out here, and by how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from beamkd.claims import (
    FEWEST,
    METRICS,
    Claim,
    difference,
    interval,
    judge,
    judge_all,
    judge_over_roads,
    verdict,
    weighted_rates,
)
from tests.coverage_of_intervals import MIXES, coverage

RNG = np.random.default_rng(7)


def measured(rates, windows=8):
    """A method whose rates [seeds, drives, slots] are the same in all metrics, each drive of so many windows."""
    return {"by_drive": dict.fromkeys(METRICS, windows * np.asarray(rates, float))}


def counted(rates, windows=8):
    """The windows behind `measured`."""
    return dict.fromkeys(METRICS, np.full(np.shape(rates), float(windows)))


def seeds(*row, count=5, drives=6):
    """A method with the same slots for so many seeds and drives."""
    return measured(np.broadcast_to(row, (count, drives, len(row))))


def equal(count=5, drives=6, slots=1):
    """The windows behind `seeds`."""
    return counted(np.zeros((count, drives, slots)))


def of(rates):
    """Interval of the mean of rates [seeds, drives], with as many windows each."""
    rates = np.asarray(rates, float)[..., None]
    found = interval(lambda weights: weighted_rates(weights, rates, np.ones_like(rates)), *rates.shape[:2])
    return np.concatenate(found)


def two_way(rates):
    """The interval of a balanced layout with normal effects, from its mean squares."""
    seeds, drives = rates.shape
    by_seed, by_drive = rates.mean(1) - rates.mean(), rates.mean(0) - rates.mean()
    rest = rates - rates.mean() - by_seed[:, None] - by_drive
    of_seed, of_drive = (by_seed**2).sum() / (seeds - 1) / seeds, (by_drive**2).sum() / (drives - 1) / drives
    of_rest = (rest**2).sum() / ((seeds - 1) * (drives - 1)) / (seeds * drives)
    variance, rest_freedom = of_seed + of_drive - of_rest, (seeds - 1) * (drives - 1)
    uncertainty = of_seed**2 / (seeds - 1) + of_drive**2 / (drives - 1) + of_rest**2 / rest_freedom
    freedom = variance**2 / uncertainty
    if variance < of_rest:
        variance, freedom = of_rest, rest_freedom
    return rates.mean() + stats.t.ppf([0.025, 0.975], freedom) * np.sqrt(variance)


@pytest.mark.parametrize("shape", [(5, 13), (20, 21), (20, 100)])
def test_interval_of_normal_effects_is_that_of_the_analysis_of_variance(shape):
    rates = 0.3 * RNG.normal(size=(shape[0], 1)) + RNG.normal(size=(1, shape[1])) + RNG.normal(size=shape)
    expected = two_way(rates)
    assert of(rates) == pytest.approx(expected, abs=0.06 * np.ptp(expected))


@pytest.mark.parametrize("shape", [(5, 13), (20, 21), (20, 100)])
def test_where_neither_seeds_nor_drives_differ_the_interval_is_that_of_what_remains(shape):
    rates = RNG.normal(size=shape)
    rates -= 0.7 * (rates.mean(0) - rates.mean()) + 0.7 * (rates.mean(1, keepdims=True) - rates.mean())
    expected = two_way(rates)
    freedom = (shape[0] - 1) * (shape[1] - 1)
    rest = rates - rates.mean(0) - rates.mean(1, keepdims=True) + rates.mean()
    error = np.sqrt((rest**2).sum() / freedom / rates.size)
    np.testing.assert_allclose(np.ptp(expected), 2 * stats.t.ppf(0.975, freedom) * error)
    assert of(rates) == pytest.approx(expected, abs=0.06 * np.ptp(expected))


@pytest.mark.parametrize("axis", [0, 1])
def test_where_one_level_alone_varies_the_interval_is_students_of_that_level(axis):
    values = np.random.default_rng(axis).normal(size=9)
    rates = np.broadcast_to(values[:, None] if axis == 0 else values, (9, 12) if axis == 0 else (12, 9))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert np.ptp(of(rates)) == pytest.approx(np.ptp(expected), rel=0.05)


def test_a_lead_on_two_of_thirteen_drives_is_no_lead_however_many_seeds_agree():
    rates = np.zeros((20, 13))
    rates[:, :2] = 0.065
    rates += RNG.normal(0, 0.002, rates.shape)
    over_seeds = stats.ttest_1samp(rates.mean(1), 0).confidence_interval(0.95)
    low, high = of(rates)
    assert over_seeds.low > 0.009 and low < 0 < high


def test_interval_of_skewed_drives_is_skewed_with_them():
    values = np.array([0.0, 0.0, 0.01, 0.01, 0.02, 0.02, 0.03, 0.2])
    low, high = of(np.broadcast_to(values, (6, 8)))
    assert high - values.mean() > 1.5 * (values.mean() - low)


def test_interval_moves_grows_and_turns_with_the_differences():
    rates = RNG.normal(0.01, 0.02, (6, 9))
    low, high = of(rates)
    np.testing.assert_allclose(of(3 * rates + 0.5), [3 * low + 0.5, 3 * high + 0.5], atol=1e-9)
    np.testing.assert_allclose(of(-rates), [-high, -low], atol=1e-4)
    np.testing.assert_array_equal(of(rates), [low, high])


@pytest.mark.filterwarnings("error")
def test_constant_differences_give_that_constant():
    rates = np.full((20, 13), 0.1)
    rates[1] = np.nextafter(0.1, 1)
    np.testing.assert_allclose(of(rates), (0.1, 0.1), rtol=1e-9)
    np.testing.assert_allclose(of(0 * rates), (0, 0))


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_a_single_seed_or_drive_bounds_nothing(shape):
    low, high = of(np.full(shape, 0.3))
    assert (low, high) == (-np.inf, np.inf)


def test_drives_count_by_their_windows():
    sums, windows = np.array([[[1.0], [6.0]]]), np.array([[[2.0], [30.0]]])
    np.testing.assert_allclose(
        weighted_rates(np.array([[1, 1], [3, 0], [0, 0]]), sums, windows)[:2, 0, 0], [7 / 32, 0.5]
    )
    assert np.isnan(weighted_rates(np.zeros((1, 2)), sums, windows)).all()


def test_seeds_that_test_other_drives_share_those_of_all():
    """Of 40 drives each of 6 seeds tests ten; a drive's own effect is common to the seeds that test it."""
    rng = np.random.default_rng(3)
    windows = np.zeros((6, 40, 1))
    for seed in windows:
        seed[rng.permutation(40)[:10]] = 8
    effects = rng.normal(size=(1, 40, 1))
    methods = {"a": measured(windows * effects, 1), "b": measured(0 * windows, 1)}
    found = difference("a", "b", methods, dict.fromkeys(METRICS, windows), "top1")
    tested = windows.sum(0)[:, 0] > 0
    assert found.drives == tested.sum() < 40
    share = (windows / windows.sum(1, keepdims=True)).mean(0)[:, 0]
    assert found.mean == pytest.approx((share * effects[0, :, 0]).sum())
    half = (found.high - found.low) / 2
    assert half == pytest.approx(2.1 * np.sqrt((share**2).sum()) * effects[:, tested].std(), rel=0.4)


@pytest.mark.parametrize("mix", ["drives", "both", "measured"])
@pytest.mark.parametrize(("seeds", "drives"), [(5, 13), (20, 13)])
def test_interval_holds_the_truth_as_often_as_it_says(seeds, drives, mix):
    assert 0.90 <= coverage(seeds, drives, MIXES[mix], datasets=300) <= 0.985


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


def test_a_claim_is_judged_over_seeds_drives_and_slots():
    ours = measured([[[0.5, 0.25]] * 2, [[0.75, 0.5]] * 2, [[0.5, 0.5]] * 2])
    theirs = measured([[[0.25, 0.25]] * 2, [[0.25, 0.5]] * 2, [[0.5, 0]] * 2])
    methods, windows = {"ours": ours, "theirs": theirs}, equal(3, 2, 2)
    found = judge(Claim("x", "Ours is better.", "ours", "theirs"), methods, windows, "top5")
    assert (found["claim"], found["statement"], found["metric"]) == ("x", "Ours is better.", "top5")
    assert (found["better"], found["worse"], found["margin"]) == ("ours", "theirs", 0.0)
    assert (found["seeds"], found["drives"]) == (3, 2)
    assert found["difference"] == pytest.approx((0.25 + 0 + 0.5 + 0 + 0 + 0.5) / 6)
    np.testing.assert_allclose([found["low"], found["high"]], of(np.repeat([[0.125], [0.25], [0.25]], 2, 1)))
    assert found["verdict"] == "open"  # three seeds are too few, whatever their interval
    np.testing.assert_allclose(found["slots"]["difference"], [0.25, 0.5 / 3])
    slots = [of(np.repeat(column, 2, 1)) for column in ([[0.25], [0.5], [0]], [[0], [0], [0.5]])]
    np.testing.assert_allclose(np.transpose([found["slots"]["low"], found["slots"]["high"]]), slots)


def test_seeds_and_drives_are_paired():
    ours = RNG.integers(16, 48, (20, 13, 4)) / 64  # seeds and drives differ far more than methods do
    methods = {"ours": measured(ours + 1 / 64), "theirs": measured(ours)}
    found = judge(Claim("x", "", "ours", "theirs"), methods, counted(ours), "dba")
    assert [found["low"], found["high"]] == pytest.approx([1 / 64] * 2) and found["verdict"] == "confirmed"


def test_a_metric_is_judged_by_itself():
    ahead, behind = seeds(0.75)["by_drive"], seeds(0.5)["by_drive"]
    ours, theirs = ({**some, "power_ratio": other["top1"]} for some, other in ((ahead, behind), (behind, ahead)))
    methods, claim = {"ours": {"by_drive": ours}, "theirs": {"by_drive": theirs}}, Claim("x", "", "ours", "theirs")
    assert [judge(claim, methods, equal(), metric)["verdict"] for metric in METRICS] == ["confirmed"] * 3 + ["refuted"]


def test_pairs_are_judged_by_how_near_they_are():
    """A student a quarter above its teacher is as far from it as one a quarter below; one that equals it is nearer."""
    methods = {"teacher": seeds(0.5), "above": seeds(0.75), "below": seeds(0.25), "same": seeds(0.5)}

    def nearer(one, other):
        return judge(Claim("x", "", (one, "teacher"), (other, "teacher")), methods, equal(), "top1")

    assert nearer("above", "below")["difference"] == 0
    assert (nearer("same", "above")["difference"], nearer("same", "above")["verdict"]) == (0.25, "confirmed")
    assert nearer("above", "same")["verdict"] == "refuted"
    assert nearer("same", "above")["better"] == "same to teacher"


def test_nearness_is_of_each_seed_and_slot():
    gaps = np.array([[0.25, -0.25], [-0.25, 0.25]])[:, None]
    methods = {"a": measured(np.repeat(0.5 + gaps, 6, 1)), "b": measured(np.full((2, 6, 2), 0.5))}
    found = difference(("a", "b"), ("b", "b"), methods, equal(2, 6, 2), "top1")
    assert found.mean == -0.25


def test_a_margin_turns_a_small_loss_into_a_par():
    methods = {"ours": seeds(0.5), "theirs": seeds(0.515625)}
    for margin, expected in ((0.0, "refuted"), (0.01, "refuted"), (0.02, "confirmed")):
        assert judge(Claim("x", "", "ours", "theirs", margin), methods, equal(), "top1")["verdict"] == expected


@pytest.mark.parametrize("few", ["seeds", "drives"])
@pytest.mark.parametrize(("missing", "expected"), [(1, "open"), (0, "confirmed")])
def test_few_seeds_or_drives_leave_every_claim_open(few, missing, expected):
    count, drives = (FEWEST[name] - missing * (name == few) for name in ("seeds", "drives"))
    methods = {"ours": seeds(0.75, count=count, drives=drives), "theirs": seeds(0.5, count=count, drives=drives)}
    found = judge(Claim("x", "", "ours", "theirs"), methods, equal(count, drives), "top1")
    assert found["verdict"] == expected


def test_methods_of_unequal_seeds_are_refused():
    methods = {"a": seeds(0.5), "b": seeds(0.5, count=4)}
    with pytest.raises(ValueError, match=r"b: expected top1 .* \(5, 6, 1\), found \(4, 6, 1\)"):
        judge(Claim("x", "", "a", "b"), methods, equal(), "top1")


def test_all_claims_are_judged_by_all_metrics_but_those_of_methods_that_are_not_there():
    methods = {"a": seeds(0.5), "b": seeds(0.5)}
    claims = [Claim("x", "", *sides) for sides in (("a", "gone"), ("gone", "a"), (("a", "gone"), "b"), ("a", "b"))]
    claims.append(Claim("y", "", ("a", "b"), ("a", "b")))
    found = judge_all(claims, methods, equal())
    assert [(claim["better"], claim["metric"]) for claim in found] == [
        (better, metric) for better in ("a", "a to b") for metric in METRICS
    ]


def on_road(difference, half=0.01, claim="ours", **changes):
    """What is judged on a road."""
    head = {"claim": claim, "statement": "A beats B.", "metric": "top5", "better": "a", "worse": "b", "margin": 0.0}
    found = {"seeds": 10, "drives": 12, "difference": difference, "low": difference - half, "high": difference + half}
    return head | found | changes


def test_other_roads_are_within_students_interval_of_the_roads_and_these_within_their_own():
    each = np.array([0.01, 0.03, 0.02, 0.06])
    (found,) = judge_over_roads([[on_road(value, half)] for value, half in zip(each, (0.03, 0.04, 0, 0), strict=True)])
    low, high = stats.t.interval(0.95, 3, each.mean(), stats.sem(each))
    np.testing.assert_allclose([found["difference"], found["low"], found["high"]], [0.03, low, high])
    np.testing.assert_allclose(found["here"], [0.03 - 0.05 / 4, 0.03 + 0.05 / 4])  # a triangle of 3, 4 and 5
    assert (found["roads"], found["seeds"], found["drives"], found["verdict"]) == (4, 10, 48, "open")
    np.testing.assert_allclose(found["each"], each)


def test_roads_that_are_near_by_chance_say_no_more_of_others_than_of_themselves():
    (found,) = judge_over_roads([[on_road(0.02, 0.03)] for _ in range(4)])
    np.testing.assert_allclose([found["low"], found["high"]], [0.005, 0.035])
    np.testing.assert_allclose(found["here"], [0.005, 0.035])


@pytest.mark.parametrize(
    ("values", "seeds", "expected"),
    [((0.02, 0.03, 0.025), 10, "confirmed"), ((0.02, 0.02), 10, "open"), ((0.02, 0.03, 0.025), 4, "open")],
)
def test_few_roads_or_seeds_leave_claims_on_roads_open(values, seeds, expected):
    (found,) = judge_over_roads([[on_road(value, seeds=seeds)] for value in values])
    assert found["verdict"] == expected


def test_a_single_road_says_nothing_of_others():
    (found,) = judge_over_roads([[on_road(0.02)]])
    assert (found["low"], found["high"], found["verdict"]) == (-np.inf, np.inf, "open")
    np.testing.assert_allclose(found["here"], [0.01, 0.03])


def test_claims_that_a_road_does_not_have_are_left_out():
    roads = [[on_road(0.01), on_road(0.5, claim="other")], [on_road(0.03)]]
    assert [found["claim"] for found in judge_over_roads(roads)] == ["ours"]
