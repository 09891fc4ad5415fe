"""Savings by hand, and against plain loops and optimisers of SciPy over random examples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from beamkd.base import InputError
from beamkd.training import (
    adaptive_sweep,
    beam_switches,
    beams_at_equal_power,
    beams_for,
    calibration_error,
    coverage_for,
    fit_temperature,
    fixed_sweeps,
    horizon,
    outage,
    power_ratio,
    spectral_efficiency,
    sweep_ratios,
    switched,
    top_k,
)

POWER = jnp.array([[4.0, 1, 0, 3], [2, 10, 1, 5], [1, 1, 1, 8], [0, 0, 0, 0]])
SCORES = jnp.array([[3.0, 2, 1, 0], [0, 1, 3, 2], [4, 3, 2, 1], [1, 2, 3, 4]])
"""Ratios after sweeps of 1 to 4 beams: 1, 1, 1, 1; 0.1, 0.5, 1, 1; 0.125, 0.125, 0.125, 1; missing."""


def random_case(seed=0, examples=60, slots=3, beams=9):
    """Logits that know something of the powers, labels and powers, some of which are missing."""
    rng = np.random.default_rng(seed)
    power = rng.exponential(size=(examples, slots, beams)).astype(np.float32)
    trust = rng.exponential(size=(examples, slots, 1))
    logits = (trust * np.log(power) + rng.normal(size=power.shape)).astype(np.float32)
    labels = power.argmax(-1)
    missing = rng.random(labels.shape) < 0.3
    return logits, np.where(missing, -100, labels), np.where(missing[..., None], np.float32(0), power)


def ratio_after(logits, power, beams):
    """Of one example."""
    return power[np.argsort(-logits)[:beams]].max() / power.max()


def loop(score, logits, power):
    """Mean of score(logits, power) over the examples that have a power, for each slot."""
    return [
        np.mean([score(*example) for example in zip(logits[:, s], power[:, s], strict=True) if example[1].max() > 0])
        for s in range(power.shape[1])
    ]


def each(metric):
    """The metric of each example alone."""
    return jax.vmap(lambda *example: metric(*(array[None] for array in example)))


def test_ratios_of_all_sweeps_by_hand():
    expected = [[1, 1, 1, 1], [0.1, 0.5, 1, 1], [0.125, 0.125, 0.125, 1], [0, 0, 0, 0]]
    np.testing.assert_allclose(sweep_ratios(SCORES, POWER), expected, rtol=1e-6)
    np.testing.assert_allclose(fixed_sweeps(SCORES, POWER), np.mean(expected[:3], 0), rtol=1e-6)


def test_fixed_sweeps_are_the_power_ratio_of_every_number_of_beams():
    logits, _, power = random_case()
    curve = jax.jit(fixed_sweeps)(logits, power)
    for k in range(1, 10):
        np.testing.assert_allclose(curve[:, k - 1], power_ratio(logits, power, k), rtol=1e-6)


def test_equal_scores_are_swept_from_the_lowest_beam_on():
    np.testing.assert_allclose(sweep_ratios(jnp.zeros((1, 4)), jnp.array([[1.0, 2, 4, 3]])), [[0.25, 0.5, 1, 1]])


def test_outage_by_hand():
    np.testing.assert_allclose(outage(SCORES, POWER), 2 / 3)
    np.testing.assert_allclose(outage(SCORES, POWER, 2), 2 / 3)  # half of the power is 3.01 dB less
    np.testing.assert_allclose(outage(SCORES, POWER, 2, below_db=3.02), 1 / 3)
    np.testing.assert_allclose(outage(SCORES, POWER, 3), 1 / 3)
    np.testing.assert_allclose(outage(SCORES, POWER, 1, below_db=9.5), 1 / 3)  # −10 dB is lost, −9.03 dB is not
    np.testing.assert_allclose(outage(SCORES, POWER, 4, below_db=0.1), 0)


def test_spectral_efficiency_by_hand():
    # SNR 10 with the best beam; a beam takes a tenth of the frame.
    ratios = {1: [1, 0.1, 0.125], 2: [1, 0.5, 0.125], 4: [1, 1, 1]}
    for k, found in ratios.items():
        expected = (1 - 0.1 * k) * np.mean([np.log2(1 + 10 * ratio) for ratio in found])
        np.testing.assert_allclose(spectral_efficiency(SCORES, POWER, k, 10.0, 1.0, 0.1), expected, rtol=1e-6)


@pytest.mark.parametrize("beam_seconds", [0.25, 0.3])
def test_a_sweep_that_takes_the_whole_frame_leaves_nothing(beam_seconds):
    assert spectral_efficiency(SCORES, POWER, 4, 10.0, 1.0, beam_seconds) == 0
    assert spectral_efficiency(SCORES, POWER, 3, 10.0, 1.0, beam_seconds) > 0


def test_a_full_sweep_of_64_beams_takes_a_quarter_of_the_time_whatever_is_predicted():
    rng = np.random.default_rng(0)
    logits, power = rng.normal(size=(2, 5, 64)).astype(np.float32)
    np.testing.assert_allclose(spectral_efficiency(logits, power**2, 64, 20.0), 0.75 * np.log2(101), rtol=1e-6)


def test_each_example_may_have_an_snr_of_its_own():
    snr_db = jnp.array([0.0, 10, 20, 30])
    expected = 0.9 * np.mean(np.log2(1 + np.array([1, 10, 100]) * [1, 0.1, 0.125]))
    np.testing.assert_allclose(spectral_efficiency(SCORES, POWER, 1, snr_db, 1.0, 0.1), expected, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_outage_and_rate_equal_plain_loops_over_what_has_a_power(k):
    logits, _, power = random_case()
    found = jax.jit(outage, static_argnums=2)(logits, power, k)
    np.testing.assert_allclose(found, loop(lambda *at: 10 * np.log10(ratio_after(*at, k)) < -3, logits, power))
    found = jax.jit(spectral_efficiency, static_argnums=2)(logits, power, k, 15.0)
    share = 1 - k * (5e-3 / 64) / 20e-3
    expected = loop(lambda *at: share * np.log2(1 + 10**1.5 * ratio_after(*at, k)), logits, power)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("k", [0, 5, -1])
def test_numbers_of_beams_that_there_are_not_are_refused(k):
    for metric in (outage, beams_at_equal_power, functools.partial(spectral_efficiency, snr_db=10.0)):
        with pytest.raises(InputError, match=f"expected 1 to 4 beams, found {k}"):
            metric(SCORES, POWER, k=k)


def test_horizon_by_hand():
    def windows(*best):
        """Windows of three slots in each of which beam 0 is predicted and has so much of beam 1's power."""
        return jnp.stack([jnp.array(best, jnp.float32), jnp.ones((len(best), 3))], -1)

    power = windows([0.9, 0.6, 0.7], [0.9, 0.4, 0.9], [0.1, 1, 1], [1, 1, 1])
    logits = jnp.zeros_like(power)
    np.testing.assert_array_equal(each(horizon)(logits, power), [3, 1, 0, 3])
    np.testing.assert_allclose(horizon(logits, power), 7 / 4)
    np.testing.assert_allclose(horizon(logits, power, below_db=4.5), (3 + 3 + 0 + 3) / 4)
    np.testing.assert_allclose(horizon(logits, power, below_db=11.0), 3)
    # A window whose drive ends, whether or not its prediction has failed before, is left out.
    for window in (2, 3):
        ended = power.at[window, 2].set(0)
        np.testing.assert_allclose(horizon(logits, ended), (7 - [3, 1, 0, 3][window]) / 3)
    assert horizon(logits, power.at[:, 1].set(0)) == 0


def test_changes_of_beam_by_hand():
    beams = jnp.array([5, 5, 6, 6, 7, 7, 8, -1, 9, 9, 4])
    drive = jnp.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    slots = jnp.array([0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11])
    changed, follows = jax.jit(switched)(beams, drive, slots)
    np.testing.assert_array_equal(np.flatnonzero(follows), [1, 2, 4, 6, 9, 10])
    np.testing.assert_array_equal(np.flatnonzero(changed), [2, 4, 6, 10])
    np.testing.assert_allclose(beam_switches(beams, drive, slots, slot_seconds=0.1), 4 / 6 / 0.1, rtol=1e-6)
    np.testing.assert_allclose(beam_switches(beams, drive, slots), 4 / 6 / 0.111, rtol=1e-6)


def test_a_beam_that_stays_and_frames_that_do_not_follow_one_another_count_no_changes():
    ones, slots = jnp.ones(4, int), jnp.arange(4)
    assert beam_switches(ones, ones, slots) == 0
    assert beam_switches(slots, slots, slots) == 0
    assert beam_switches(slots, ones, 2 * slots) == 0
    assert beam_switches(slots, ones, slots, 1.0) == 1
    found = jax.vmap(beam_switches, (0, None, None, None))(jnp.stack([ones, slots]), ones, slots, 1.0)
    np.testing.assert_array_equal(found, [0, 1])


def cross_entropy_at(temperature, logits, targets):
    return -(targets * log_softmax(logits.astype(np.float64) / temperature, -1)).sum()


@pytest.mark.parametrize("labelled", [True, False])
def test_the_temperature_is_that_which_scipy_finds(labelled):
    logits, labels, _ = random_case(examples=300)
    other = softmax(random_case(seed=1, examples=300)[0] + logits, -1) * (labels >= 0)[..., None]
    targets = np.asarray(jax.nn.one_hot(labels, 9)) if labelled else other.astype(np.float32)
    best = minimize_scalar(
        lambda power: cross_entropy_at(np.exp(power), logits, targets), bounds=(-5, 5), options={"xatol": 1e-8}
    )
    found = jax.jit(fit_temperature)(logits, targets)
    np.testing.assert_allclose(found, np.exp(best.x), rtol=1e-4)
    assert abs(best.x) > 0.05, "a temperature of about 1 tells nothing"


@pytest.mark.parametrize("scale", [0.02, 0.5, 1.0, 7.0, 300.0])
def test_the_temperature_of_scaled_logits_is_the_scale(scale):
    logits = random_case()[0]
    np.testing.assert_allclose(fit_temperature(scale * logits + 5, jax.nn.softmax(logits)), scale, rtol=1e-3)


def test_temperatures_of_several_networks_at_once():
    logits = random_case()[0]
    scales = jnp.array([0.5, 1.0, 2.0])
    found = jax.vmap(fit_temperature, (0, None))(scales[:, None, None, None] * logits, jax.nn.softmax(logits))
    np.testing.assert_allclose(found, scales, rtol=1e-4)


def test_a_temperature_of_two_beams_by_hand():
    # The better beam is right three times of four: its logit must become log 3.
    logits = jnp.tile(jnp.array([4.0, 0.0]), (4, 1))
    np.testing.assert_allclose(fit_temperature(logits, jnp.eye(2)[jnp.array([0, 0, 1, 0])]), 4 / np.log(3), rtol=1e-5)


def test_temperatures_end_where_the_cross_entropy_only_falls_and_stay_1_where_all_are_as_good():
    logits, right = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]])
    np.testing.assert_allclose(fit_temperature(logits, 1 - right), 1000, rtol=1e-4)
    # Two beams 1 apart at T = 1/1000 have no slope left in float32 long before: any T so low is as good.
    assert fit_temperature(logits, right) < 0.02
    assert fit_temperature(logits, jnp.zeros((1, 2))) == 1
    assert fit_temperature(jnp.full((1, 2), 3.0), right) == 1


def plain_calibration_error(probabilities, labels, bins):
    """In the words of Guo et al., of one slot."""
    there = labels >= 0
    probabilities, labels = probabilities[there], labels[there]
    confidence, hit = probabilities.max(-1), probabilities.argmax(-1) == labels
    total = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_calibration_error_is_that_of_its_definition(bins):
    logits, labels, _ = random_case(examples=200)
    probabilities = softmax(2 * logits, -1)
    found = jax.jit(calibration_error, static_argnums=2)(probabilities, labels, bins)
    expected = [plain_calibration_error(probabilities[:, s], labels[:, s], bins) for s in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert min(expected) > 0.01


def test_calibration_errors_by_hand():
    probabilities = jnp.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2]])
    labels = jnp.array([0, 0, 0, 0, 1])
    np.testing.assert_allclose(calibration_error(probabilities, labels), 0, atol=1e-6)
    np.testing.assert_allclose(calibration_error(probabilities, 1 - labels), 0.6, rtol=1e-5)
    np.testing.assert_allclose(calibration_error(probabilities, labels.at[4].set(-1)), 0.2, rtol=1e-5)
    # Sure and right half of the time, unsure and always right: errors of 1/2 each, which one bin lets cancel.
    mixed = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(calibration_error(mixed, jnp.array([0, 1, 0, 0])), 0.5, rtol=1e-5)
    np.testing.assert_allclose(calibration_error(mixed, jnp.array([0, 1, 0, 0]), bins=1), 0, atol=1e-6)
    # A confidence of 1/2 belongs to the lower half: errors of 1/2 and 3/4 do not cancel.
    edge = jnp.array([[0.5, 0.5], [0.75, 0.25]])
    np.testing.assert_allclose(calibration_error(edge, jnp.array([0, 1]), bins=2), (0.5 + 0.75) / 2, rtol=1e-6)


def test_labels_drawn_from_the_probabilities_are_calibrated_and_a_fitted_temperature_restores_that():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20000, 5)).astype(np.float32)
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    sharp = 3 * logits
    assert calibration_error(softmax(logits, -1), labels) < 0.015
    assert calibration_error(softmax(sharp, -1), labels) > 0.1
    temperature = fit_temperature(sharp, jax.nn.one_hot(labels, 5))
    np.testing.assert_allclose(temperature, 3, rtol=0.05)
    assert calibration_error(jax.nn.softmax(sharp / temperature), labels) < 0.015


def test_beams_that_hold_a_probability_by_hand():
    probabilities = jnp.array([[0.1, 0.6, 0.05, 0.25], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 1.0, 0.0]])
    for coverage, beams in {0.0: [1, 1, 1], 0.3: [1, 2, 1], 0.7: [2, 3, 1], 0.86: [3, 4, 1], 0.99: [4, 4, 1]}.items():
        np.testing.assert_array_equal(beams_for(probabilities, coverage), beams)
    np.testing.assert_array_equal(beams_for(probabilities, 0.75), [2, 3, 1])  # just enough
    np.testing.assert_array_equal(beams_for(probabilities, 1.0), [4, 4, 4])
    np.testing.assert_array_equal(beams_for(probabilities, jnp.array([0.3, 0.7, 1.0])), [1, 3, 4])


def adaptive_by_hand(logits, power, coverage):
    """Number of beams and ratio of one example."""
    probabilities = np.sort(softmax(logits.astype(np.float64)))[::-1]
    beams = 1 + np.flatnonzero(probabilities.cumsum() >= coverage)[0]
    return beams, ratio_after(logits, power, beams)


@pytest.mark.parametrize("coverage", [0.3, 0.8, 0.97])
def test_adaptive_sweeps_equal_plain_loops_over_what_has_a_power(coverage):
    logits, _, power = random_case()
    found = jax.jit(adaptive_sweep)(jax.nn.softmax(logits), power, coverage)
    np.testing.assert_allclose(found[0], loop(lambda *at: adaptive_by_hand(*at, coverage)[0], logits, power), rtol=1e-5)
    np.testing.assert_allclose(found[1], loop(lambda *at: adaptive_by_hand(*at, coverage)[1], logits, power), rtol=1e-5)


def test_adaptive_sweeps_grow_with_the_coverage_from_one_beam_to_all():
    logits, _, power = random_case()
    beams, ratios = jax.vmap(functools.partial(adaptive_sweep, jax.nn.softmax(logits), power))(jnp.linspace(0, 1, 40))
    assert (jnp.diff(beams, axis=0) >= 0).all()
    assert (jnp.diff(ratios, axis=0) >= -1e-6).all()
    np.testing.assert_array_equal(beams[0], 1)
    np.testing.assert_allclose(ratios[0], power_ratio(logits, power), rtol=1e-6)
    np.testing.assert_array_equal(beams[-1], 9)
    np.testing.assert_allclose(ratios[-1], 1, rtol=1e-6)


def test_the_coverage_for_a_power_is_the_least_one():
    logits, _, power = random_case()
    probabilities = jax.nn.softmax(logits)
    target = jnp.array([0.8, 0.9, 0.97])
    coverage = jax.jit(coverage_for)(probabilities, power, target)
    assert (adaptive_sweep(probabilities, power, coverage)[1] >= target - 1e-5).all()
    assert (adaptive_sweep(probabilities, power, coverage - 1e-5)[1] < target).all()
    np.testing.assert_array_equal(coverage_for(probabilities, power, 0.0), jnp.full(3, 2.0**-30))


def least_beams(logits, power, k):
    """Of one slot: the smallest mean number of beams over all coverages that matter, each tried."""
    chosen = power.max(-1) > 0
    logits, power = logits[chosen], power[chosen]
    target = np.mean([ratio_after(*example, k) for example in zip(logits, power, strict=True)])
    held = np.sort(softmax(logits.astype(np.float64), -1), -1)[:, ::-1].cumsum(-1)
    for coverage in np.sort(held[:, :-1].ravel()) - 1e-9:
        found = np.array([adaptive_by_hand(*example, coverage) for example in zip(logits, power, strict=True)])
        if found[:, 1].mean() >= target - 1e-6:
            return found[:, 0].mean()
    return logits.shape[-1]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_beams_at_equal_power_are_those_of_the_best_of_all_coverages(k):
    logits, _, power = random_case()
    found = jax.jit(beams_at_equal_power, static_argnums=2)(jax.nn.softmax(logits), power, k)
    expected = [least_beams(logits[:, s], power[:, s], k) for s in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_probabilities_that_tell_hard_examples_from_easy_ones_save_beams():
    # Half of the examples are sure and right; the others know that the best beam is any of eight.
    sure, unsure = jnp.eye(8)[jnp.zeros(8, int)], jnp.full((8, 8), 1 / 8)
    probabilities = jnp.concatenate([0.9 * sure + 0.1 / 8, unsure])
    power = jnp.concatenate([sure, jnp.eye(8)]) + 1e-3
    # A fixed sweep of 8 finds all, as do adaptive ones of 1 and 8 beams.
    np.testing.assert_allclose(fixed_sweeps(probabilities, power)[-1], 1)
    np.testing.assert_allclose(adaptive_sweep(probabilities, power, 0.9), [(1 + 8) / 2, 1], rtol=1e-6)
    np.testing.assert_allclose(beams_at_equal_power(probabilities, power, 8), (1 + 8) / 2)


@pytest.mark.parametrize("k", [1, 3, 4])
def test_probabilities_that_are_the_same_in_all_examples_save_nothing(k):
    probabilities = jnp.tile(jnp.array([0.4, 0.3, 0.2, 0.1]), (4, 1))
    power = jnp.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [1, 4, 3, 3.5], [3, 2, 1, 5]])
    np.testing.assert_allclose(beams_at_equal_power(probabilities, power, k), k)
    np.testing.assert_allclose(jax.jit(beams_at_equal_power, static_argnums=2)(probabilities, power, k), k)
    # Nor does a rounding of the power that is asked for cost a beam.
    target = fixed_sweeps(probabilities, power)[k - 1]
    for rounding in (-3e-7, 3e-7):
        coverage = coverage_for(probabilities, power, target + rounding)
        np.testing.assert_allclose(adaptive_sweep(probabilities, power, coverage)[0], k)


METRICS = {
    "fixed_sweeps": fixed_sweeps,
    "outage": outage,
    "spectral_efficiency": lambda scores, power: spectral_efficiency(scores, power, 2, 10.0),
    "adaptive_sweep": lambda scores, power: jnp.stack(adaptive_sweep(scores, power, 0.8)),
}


@pytest.mark.parametrize("name", METRICS)
def test_means_are_those_of_examples_scored_alone(name):
    logits, _, power = random_case()
    scores = jax.nn.softmax(logits)
    alone = np.asarray(each(METRICS[name])(scores, power))
    received = power.max(-1) > 0
    mask = received.reshape(
        alone.shape[:1] + (1,) * (name == "adaptive_sweep") + (3,) + (1,) * (name == "fixed_sweeps")
    )
    assert not alone[~np.broadcast_to(mask, alone.shape)].any()
    np.testing.assert_allclose(METRICS[name](scores, power), (alone * mask).sum(0) / mask.sum(0), rtol=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_savings_do_not_depend_on_the_recordings_unit(name):
    logits, _, power = random_case()
    scores = jax.nn.softmax(logits)
    np.testing.assert_allclose(METRICS[name](scores, power * 1e-12), METRICS[name](scores, power), rtol=1e-5)


def test_where_nothing_was_measured_all_is_zero():
    scores, power = jax.nn.softmax(SCORES), jnp.zeros_like(POWER)
    for metric in METRICS.values():
        np.testing.assert_array_equal(metric(scores, power), 0)
    assert calibration_error(scores, jnp.full(4, -100)) == 0
    assert horizon(scores[None], power[None]) == 0


def test_a_perfect_prediction_has_no_outage_and_holds():
    _, labels, power = random_case()
    np.testing.assert_array_equal(top_k(power, labels), 1)
    np.testing.assert_array_equal(outage(power, power, below_db=1e-3), 0)
    np.testing.assert_array_equal(horizon(power, power, below_db=1e-3), 3)


@pytest.mark.parametrize(
    "metric",
    [
        sweep_ratios,
        fixed_sweeps,
        outage,
        functools.partial(spectral_efficiency, k=1, snr_db=10.0),
        horizon,
        fit_temperature,
        functools.partial(adaptive_sweep, coverage=0.9),
        functools.partial(coverage_for, ratio=0.9),
        functools.partial(beams_at_equal_power, k=1),
    ],
)
def test_arrays_that_do_not_fit_are_refused(metric):
    with pytest.raises(AssertionError):
        metric(SCORES[None], POWER[None, :3])


def test_labels_and_frames_that_do_not_fit_are_refused():
    for labels in (jnp.zeros(3, int), jnp.zeros(4), jnp.zeros((4, 4), int)):
        with pytest.raises(AssertionError):
            calibration_error(SCORES, labels)
    with pytest.raises(AssertionError):
        beam_switches(jnp.zeros(4, int), jnp.zeros(4, int), jnp.zeros(3, int))
    with pytest.raises(AssertionError):
        beam_switches(jnp.zeros(4), jnp.zeros(4, int), jnp.arange(4))
