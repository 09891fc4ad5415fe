"""Drives that nobody drove, as a run keeps them for `beamkd.report --watch`."""

import numpy as np

FRAMES, OBSERVED, BEAMS, SLOTS, LIKELY = (30, 24), 8, 16, 3, 5
NAMES = ["teacher", "</script><script>alert(1)</script>"]


def drives(sensors=True):
    """Arrays of two drives and two networks; the second network is right in every fourth frame of the second drive."""
    rng = np.random.default_rng(0)
    number = np.repeat([3, 7], FRAMES)
    slot = np.concatenate([np.arange(frames) for frames in FRAMES])
    share = slot / np.repeat(FRAMES, FRAMES)
    position = np.stack([9.5 + 0.1 * rng.normal(size=len(slot)), 8 - 16 * share], -1).astype(np.float32)
    azimuth = np.linspace(38, -38, BEAMS, dtype=np.float32)
    off = np.rad2deg(np.arctan2(position[:, 1], position[:, 0]))[:, None] - azimuth
    power = (np.exp(-((off / 9) ** 2)) + 0.2 + 0.05 * rng.random(off.shape)).astype(np.float32)
    beams = np.argsort(-(power + 0.3 * rng.random((len(NAMES), SLOTS, *power.shape))), -1)[..., :LIKELY]
    beams = beams.transpose(0, 2, 1, 3).astype(np.int16)
    shares = -np.sort(-rng.dirichlet(np.ones(BEAMS), beams.shape[:3]), -1)[..., :LIKELY]
    beams[:, slot < OBSERVED - 1], shares[:, slot < OBSERVED - 1] = -1, 0
    arrays = {
        "observed": np.array(OBSERVED),
        "slot_seconds": np.array(0.111),
        "drive": number,
        "slot": slot,
        "position": position,
        "power": power,
        "azimuth": azimuth,
        "networks": np.array(NAMES),
        "beams": beams,
        "probabilities": shares.astype(np.float32),
    }
    return arrays | (_sensors(rng, position) if sensors else {})


def _sensors(rng, position):
    count = len(position)
    scans = np.where(rng.random((count, 216)) < 0.05, 7.5, 0)
    return {
        "lidar": scans.astype(np.float32),
        "gps": position + np.float32(0.4),
        "metres": np.float32(17),
        "radar": rng.integers(0, 256, (count, 60, 64), np.uint8),
        "doppler": rng.integers(0, 256, (count, 60, 64), np.uint8),
        "masks": rng.integers(0, 256, (count, 32, 4), np.uint8),
    }
