"""What a prediction saves: short sweeps instead of full ones, how long it holds, how far its probabilities can be used.

Means are over the first axis, of the examples that have a power or a label; 0 where none has. What an example scores
alone is the mean over a batch of one, which `jax.vmap` gives of all.
"""

import chex
import jax
import jax.numpy as jnp

from beamkd.base import SLOT_SECONDS, Array, InputError
from beamkd.losses import masked_mean

BELOW_DB = 3.0
"""Loss in dB from which on a beam is not good enough: half of the best beam's power."""

FRAME_SECONDS = 20e-3
"""Seconds from sweep to sweep: the period of SS/PBCH blocks that 5G NR assumes by default (3GPP TS 38.213, 4.1)."""

BEAM_SECONDS = 5e-3 / 64
"""Seconds that a beam takes in a sweep: 5G NR sends 64 SS/PBCH blocks in half a frame, 5 ms (3GPP TS 38.213, 4.1)."""

HOTTEST = 1000.0
"""The highest temperature that is fitted; the lowest is its inverse."""

HALVINGS = 30
"""Halvings of an interval until what is sought is known to about the rounding of float32."""

ROUNDING = 1e-6
"""Mean power ratios that are no farther apart are equal but for rounding."""


def sweep_ratios(scores: Array, power: Array) -> Array:
    """Received power over the best beam's after a sweep of the k best-scored beams, for every k.

    Args:
      scores: [..., M], logits or probabilities.
      power: [..., M], linear receive power of each beam; all 0 where missing.

    Returns:
      [..., M], from 0 to 1, that of k beams at k − 1; 0 where the power is missing.
    """
    chex.assert_equal_shape([scores, power])
    best = power.max(-1, keepdims=True)
    ordered = jnp.take_along_axis(power, _by_score(scores)[1], axis=-1)
    return jax.lax.cummax(ordered, axis=ordered.ndim - 1) / jnp.where(best > 0, best, 1)


def fixed_sweeps(scores: Array, power: Array) -> Array:
    """Mean over examples of `sweep_ratios`: `power_ratio` of every k at once.

    Args:
      scores: [B, ..., M], logits or probabilities.
      power: [B, ..., M], linear receive power of each beam; all 0 where missing.

    Returns:
      [..., M], that of k beams at k − 1; it rises with k, to 1.
    """
    return masked_mean(sweep_ratios(scores, power), power.max(-1) > 0, axis=0)


def outage(logits: Array, power: Array, k: int = 1, below_db: float = BELOW_DB) -> Array:
    """Share of the examples that lose more than `below_db` after a sweep of the k best-scored beams.

    The power loss probability of Va et al., IEEE Trans. Vehicular Technology, 2018 (arXiv 1705.05942).

    Args:
      logits: [B, ..., M].
      power: [B, ..., M], linear receive power of each beam; all 0 where missing.
      k: number of beams swept.
      below_db: dB under the best beam.

    Returns:
      [...], from 0 to 1.

    Raises:
      InputError: k is not from 1 to M.
    """
    lost = _ratio_after(logits, power, k) < _linear(-below_db)
    return masked_mean(lost.astype(jnp.float32), power.max(-1) > 0, axis=0)


def spectral_efficiency(
    logits: Array,
    power: Array,
    k: int,
    snr_db: float | Array,
    frame_seconds: float = FRAME_SECONDS,
    beam_seconds: float = BEAM_SECONDS,
) -> Array:
    """Spectral efficiency that a sweep of the k best-scored beams leaves, mean over examples.

    max(1 − k T_beam / T_frame, 0) log₂(1 + SNR · ratio), the effective rate of Alkhateeb et al., IEEE Access, 2018
    (arXiv 1804.10334), where the ratio is the swept beams' power over the best beam's. A full sweep is k = M.

    Args:
      logits: [B, ..., M].
      power: [B, ..., M], linear receive power of each beam; all 0 where missing.
      k: number of beams swept in each frame.
      snr_db: dB, SNR with the best beam, as powers have no unit: one, or [B, ...].
      frame_seconds: T_frame, s from sweep to sweep.
      beam_seconds: T_beam, s that a beam takes in a sweep.

    Returns:
      [...], in bit/s/Hz.

    Raises:
      InputError: k is not from 1 to M.
    """
    rate = jnp.log2(1 + _linear(snr_db) * _ratio_after(logits, power, k))
    remaining = jnp.maximum(1 - k * beam_seconds / frame_seconds, 0)
    return masked_mean(remaining * rate, power.max(-1) > 0, axis=0)


def horizon(logits: Array, power: Array, below_db: float = BELOW_DB) -> Array:
    """For how many slots a prediction holds, the current one included, mean over examples.

    It holds until the best-scored beam of a slot loses more than `below_db`. Only examples with a power in every slot
    count: in the others the end of the drive, and not the prediction, may end it.

    Args:
      logits: [B, J + 1, M].
      power: [B, J + 1, M], linear receive power of each beam; all 0 where missing.
      below_db: dB under the best beam.

    Returns:
      [], from 0 (the current slot's beam is not good enough) to J + 1.
    """
    chex.assert_rank([logits, power], 3)
    held = jnp.cumprod(_ratio_after(logits, power, 1) >= _linear(-below_db), axis=1)
    return masked_mean(held.sum(1).astype(jnp.float32), (power.max(-1) > 0).all(1))


def switched(beams: Array, drive: Array, slot: Array) -> tuple[Array, Array]:
    """Whether the beam of each frame is another than that of the slot before.

    Args:
      beams: [F] integer, negative where missing. Frames as in `Drives`: drive by drive, in order of time.
      drive: [F] integer, the drive of each.
      slot: [F] integer, time within the drive in slots.

    Returns:
      Whether it changed, [F] bool, and whether frame and slot before are both there, [F] bool; no change where not.
    """
    chex.assert_equal_shape([beams, drive, slot])
    chex.assert_rank(beams, 1)
    chex.assert_type([beams, drive, slot], int)
    # Before the first frame stands the last one, which never is one slot earlier in the same drive.
    last_beams, last_drive, last_slot = (jnp.roll(values, 1) for values in (beams, drive, slot))
    follows = (drive == last_drive) & (slot - last_slot == 1) & (beams >= 0) & (last_beams >= 0)
    return follows & (beams != last_beams), follows


def beam_switches(beams: Array, drive: Array, slot: Array, slot_seconds: float = SLOT_SECONDS) -> Array:
    """Changes of beam a second, over pairs of consecutive slots of a drive.

    Args:
      beams: [F] integer, negative where missing. Frames as in `Drives`: drive by drive, in order of time.
      drive: [F] integer, the drive of each.
      slot: [F] integer, time within the drive in slots.
      slot_seconds: s from slot to slot.

    Returns:
      [], in 1/s.
    """
    changed, follows = switched(beams, drive, slot)
    return masked_mean(changed.astype(jnp.float32), follows) / slot_seconds


def fit_temperature(logits: Array, targets: Array) -> Array:
    """The temperature T that minimises the cross-entropy of softmax(logits / T) against targets.

    Temperature scaling of Guo et al., ICML 2017. Targets are another network's probabilities, for instance a teacher's,
    or labels, `jax.nn.one_hot(labels, M)`. The cross-entropy is convex in 1 / T: the sign of its slope says which half
    of an interval holds the minimum.

    Args:
      logits: [..., M], finite.
      targets: [..., M], shares of each beam; all 0 where missing.

    Returns:
      [], from 1 / `HOTTEST` to `HOTTEST`, ends beyond which the best T may lie; 1 where all T are as good.
    """
    chex.assert_equal_shape([logits, targets])
    chex.assert_type([logits, targets], float)
    # Relative to the best beam's, which changes no softmax, logits lose fewer digits in the sum.
    logits = logits - logits.max(-1, keepdims=True)
    weight = targets.sum(-1, keepdims=True)

    def move(log_temperature, step):
        predicted = jax.nn.softmax(logits / jnp.exp(log_temperature))
        slope = ((weight * predicted - targets) * logits).sum()
        return log_temperature + step * jnp.sign(slope), None

    steps = jnp.log(HOTTEST) * 0.5 ** jnp.arange(1, HALVINGS + 1)
    return jnp.exp(jax.lax.scan(move, jnp.zeros(()), steps)[0])


def calibration_error(probabilities: Array, labels: Array, bins: int = 15) -> Array:
    """Expected calibration error Σ (n_b / n) |accuracy_b − confidence_b| of Guo et al., ICML 2017, over bins b.

    Examples are told apart by confidence, the best beam's probability, in bins of equal width (b − 1, b] / bins.

    Args:
      probabilities: [B, ..., M].
      labels: [B, ...] integer, from 0; negative where missing.
      bins: number of bins.

    Returns:
      [...], from 0 to 1.
    """
    chex.assert_rank(probabilities, labels.ndim + 1)
    chex.assert_equal_shape_prefix([probabilities, labels], labels.ndim)
    chex.assert_type([probabilities, labels], [float, int])
    confidence = probabilities.max(-1)
    excess = confidence - (probabilities.argmax(-1) == labels)
    place = jnp.clip(jnp.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    by_bin = excess[..., None] * jax.nn.one_hot(place, bins)
    return jnp.abs(masked_mean(by_bin, labels >= 0, axis=0)).sum(-1)


def beams_for(probabilities: Array, coverage: float | Array) -> Array:
    """The fewest beams that together hold at least a given probability.

    Args:
      probabilities: [..., M], of each beam.
      coverage: the probability, from 0 to 1: one, or an array that broadcasts against [...].

    Returns:
      [...] int32, from 1 to M; M where the coverage is 1, whatever rounding makes of the sum.
    """
    chex.assert_type(probabilities, float)
    return _fewest(_held(probabilities), coverage)


def adaptive_sweep(probabilities: Array, power: Array, coverage: float | Array) -> tuple[Array, Array]:
    """A sweep in each example of as many beams as hold a given probability (`beams_for`), the most probable ones.

    Args:
      probabilities: [B, ..., M], of each beam.
      power: [B, ..., M], linear receive power of each beam; all 0 where missing.
      coverage: the probability, from 0 to 1: one, or [...].

    Returns:
      Number of beams swept and received power over the best beam's, means over examples, each [...].
    """
    ratios = sweep_ratios(probabilities, power)
    return _adaptive(_held(probabilities), ratios, power.max(-1) > 0, coverage)


def coverage_for(probabilities: Array, power: Array, ratio: float | Array) -> Array:
    """The least coverage with which `adaptive_sweep` receives a given share of the best beam's power.

    Args:
      probabilities: [B, ..., M], of each beam.
      power: [B, ..., M], linear receive power of each beam; all 0 where missing.
      ratio: mean received power over the best beam's, from 0 to 1: one, or [...].

    Returns:
      [...], from 0 to 1; 1, a full sweep, where no less is enough.
    """
    held, ratios, received = _held(probabilities), sweep_ratios(probabilities, power), power.max(-1) > 0

    def halve(interval, _):
        low, high = interval
        middle = (low + high) / 2
        enough = _adaptive(held, ratios, received, middle)[1] >= ratio - ROUNDING
        return (jnp.where(enough, low, middle), jnp.where(enough, middle, high)), None

    ends = jnp.zeros(held.shape[1:-1]), jnp.ones(held.shape[1:-1])
    return jax.lax.scan(halve, ends, length=HALVINGS)[0][1]


def beams_at_equal_power(probabilities: Array, power: Array, k: int) -> Array:
    """Mean number of beams with which `adaptive_sweep` receives as much power as a sweep of k beams in every example.

    The coverage is chosen on the same examples. On others, take that of `coverage_for` to `adaptive_sweep`.

    Args:
      probabilities: [B, ..., M], of each beam.
      power: [B, ..., M], linear receive power of each beam; all 0 where missing.
      k: number of beams of the fixed sweep.

    Returns:
      [...], from 1 to M, of the shortest sweeps that receive so much; below k if probabilities tell which examples need
      more beams.

    Raises:
      InputError: k is not from 1 to M.
    """
    target = masked_mean(_ratio_after(probabilities, power, k), power.max(-1) > 0, axis=0)
    coverage = coverage_for(probabilities, power, target)
    return adaptive_sweep(probabilities, power, coverage)[0]


def _ratio_after(scores: Array, power: Array, k: int) -> Array:
    if not 1 <= k <= power.shape[-1]:
        raise InputError(f"k: expected 1 to {power.shape[-1]} beams, found {k}")
    return sweep_ratios(scores, power)[..., k - 1]


def _adaptive(held: Array, ratios: Array, received: Array, coverage: float | Array) -> tuple[Array, Array]:
    beams = _fewest(held, coverage)
    reached = jnp.take_along_axis(ratios, beams[..., None] - 1, axis=-1)[..., 0]
    return masked_mean(beams.astype(jnp.float32), received, axis=0), masked_mean(reached, received, axis=0)


def _held(probabilities: Array) -> Array:
    """What the k most probable beams hold together, [..., M], that of k beams at k − 1."""
    return jnp.cumsum(_by_score(probabilities)[0], axis=-1)


def _fewest(held: Array, coverage: float | Array) -> Array:
    coverage = jnp.asarray(coverage)
    fewest = 1 + (held[..., :-1] < coverage[..., None]).sum(-1)
    return jnp.where(coverage < 1, fewest, held.shape[-1]).astype(jnp.int32)


def _by_score(scores: Array) -> tuple[Array, Array]:
    """All beams by falling score, of equal ones the lower first, as `top_k` takes them: scores and beams, [..., M]."""
    return jax.lax.top_k(scores, scores.shape[-1])


def _linear(decibels: float | Array) -> Array:
    return 10 ** (jnp.asarray(decibels, jnp.float32) / 10)
