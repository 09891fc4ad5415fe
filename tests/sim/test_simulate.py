import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.data.statistics import statistics
from beamkd.sim import (
    RAYS,
    Building,
    Street,
    camera,
    hardware_codebook,
    motion_masks,
    simulate,
    simulate_chunks,
    simulate_drive,
)
from beamkd.sim.camera import project
from beamkd.sim.simulate import CHUNK
from experiments.street import MEASURED, within
from tests.xla import SAME_BITS

STREET = Street()


@pytest.fixture(scope="module")
def drives():
    return simulate(jax.random.key(0), STREET, 83)


def test_frames_are_stored_once_and_flat(drives):
    frames = len(drives.drive)
    assert drives.sensors["lidar"].shape == (frames, 216) and drives.sensors["lidar"].dtype == np.float32
    assert drives.power.shape == (frames, 64) and drives.power.dtype == np.float32
    assert drives.position.shape == (frames, 2) and drives.position.dtype == np.float32
    assert drives.drive.dtype == drives.slot.dtype == np.int32
    for array in (drives.sensors["lidar"], drives.power, drives.position):
        assert np.isfinite(array).all()
    assert (drives.power > 0).all() and (drives.sensors["lidar"] >= 0).all()


def test_drives_count_from_one_and_slots_from_zero_in_each(drives):
    number, slot = np.asarray(drives.drive), np.asarray(drives.slot)
    np.testing.assert_array_equal(np.unique(number), np.arange(1, 84))
    assert (np.diff(number) >= 0).all()
    for drive in (1, 40, 83):
        np.testing.assert_array_equal(slot[number == drive], np.arange((number == drive).sum()))


def test_the_default_street_has_the_statistics_of_scenario_8(drives):
    found = statistics(drives)
    assert {name: found[name] for name in MEASURED if not within(name, found[name])} == {}
    assert set(found) == set(MEASURED)


def test_the_same_key_gives_the_same_bits_and_another_key_others(drives):
    again, other = simulate(jax.random.key(0), STREET, 83), simulate(jax.random.key(1), STREET, 83)
    for a, b in zip(jax.tree.leaves(drives), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(other.power[:40], drives.power[:40])


def test_a_drive_does_not_depend_on_how_many_are_asked_for(drives):
    few = simulate(jax.random.key(0), STREET, 3)
    frames = len(few.drive)
    np.testing.assert_array_equal(few.power, drives.power[:frames])
    assert np.unique(few.drive).tolist() == [1, 2, 3]


def test_drives_of_later_chunks_differ_from_those_of_the_first(drives):
    number = np.asarray(drives.drive)
    first, later = (np.asarray(drives.power)[number == n][:10] for n in (1, CHUNK + 1))
    assert not np.array_equal(first, later)


def test_chunks_are_the_drives_some_at_a_time_and_not_on_a_device(drives):
    chunks = list(simulate_chunks(jax.random.key(0), STREET, 83, devices=1))
    assert [len(np.unique(chunk.drive)) for chunk in chunks] == [CHUNK, 83 - CHUNK]
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(chunks))
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
    jax.tree.map(np.testing.assert_array_equal, whole, drives)


DEVICES = """
import jax, numpy as np
from beamkd.sim import Building, Street, simulate, simulate_chunks
from beamkd.sim.simulate import CHUNK, _mesh

# Two devices have three chunks: in the end one of them has a part of a chunk, and the other has nothing to do.
key, drives = jax.random.key(0), 2 * CHUNK + 5
street = Street(max_frames=8, min_frames=2, others=1, buildings=(Building(17.0),))
one, two = (simulate(key, street, drives, devices=devices) for devices in (1, 2))
jax.tree.map(np.testing.assert_array_equal, two, one)
assert np.unique(two.drive).tolist() == list(range(1, drives + 1))
pieces = list(simulate_chunks(key, street, drives, devices=2))
assert [len(np.unique(piece.drive)) for piece in pieces] == [2 * CHUNK, 5]
assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(pieces))

assert [_mesh(None, chunks).size for chunks in (1, 3, 9)] == [1, 3, 8]
elsewhere = jax.device_put(key, jax.devices()[7])
jax.tree.map(np.testing.assert_array_equal, simulate(elsewhere, street, drives, devices=2), one)
"""


SENSORS = """
import jax, numpy as np
from beamkd.sim import Street, simulate

key, street = jax.random.key(5), Street(max_frames=6, min_frames=5, others=1)
every = simulate(key, street, 2, ("lidar", "radar", "gps"))
frames = len(every.power)
assert {name: (seen.shape, seen.dtype.name) for name, seen in every.sensors.items()} == {
    "lidar": ((frames, 216), "float32"),
    "radar": ((frames, 256, 64), "float32"),
    "gps": ((frames, 2), "float32"),
}
alone = simulate(key, street, 2, ("lidar",))
np.testing.assert_array_equal(alone.sensors["lidar"], every.sensors["lidar"])
np.testing.assert_array_equal(alone.power, every.power)
error = np.asarray(every.sensors["gps"] - every.position)
assert 0.1 < np.abs(error).mean() < 5
"""


@pytest.mark.parametrize("script", [DEVICES, SENSORS], ids=["number of devices", "a sensor more"])
def test_what_changes_no_bit_of_the_drives(script):
    environment = {**os.environ, "XLA_FLAGS": SAME_BITS, "JAX_PLATFORMS": "cpu"}
    command, folder = [sys.executable, "-c", script], Path(__file__).parents[2]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_body_is_seen_at_its_bearing(drives):
    lidar, position = np.asarray(drives.sensors["lidar"]), np.asarray(drives.position)
    bearing = np.array([np.median(RAYS[row]) for row in lidar > 0])
    body = position + Street().body_offset
    azimuth = np.arctan2(body[:, 1], body[:, 0])
    assert np.corrcoef(bearing, azimuth)[0, 1] > 0.97
    assert abs(np.median(bearing - azimuth)) < np.deg2rad(2)


def test_beams_are_numbered_from_left_to_right_around_the_boresight(drives):
    position, beam = np.asarray(drives.position), np.asarray(drives.beam)
    azimuth = np.rad2deg(np.arctan2(position[:, 1], position[:, 0]))
    inner = (beam > 3) & (beam < 60)
    slope, offset = np.polyfit(beam[inner] - 31.5, azimuth[inner], 1)
    assert abs(offset - Street().boresight) < 1
    assert abs(slope + 2 * Street().sector / 63) < 0.05


def test_the_car_passes_the_beams_in_their_order(drives):
    beam, slot = np.asarray(drives.beam), np.asarray(drives.slot)
    assert np.median(beam[slot == 0]) < 5
    assert np.median(beam[slot == 45]) > 55


def test_one_drive_under_jit_is_the_one_that_simulate_gives_under_vmap(drives):
    one = jax.jit(simulate_drive, static_argnums=1)(jax.random.fold_in(jax.random.key(0), 0), STREET)
    assert one.sensors["lidar"].shape == (STREET.max_frames, 216) and one.power.shape == (STREET.max_frames, 64)
    frames = int(one.traffic.frames)
    assert frames == (drives.drive == 1).sum()
    np.testing.assert_allclose(one.power[:frames], drives.power[:frames], rtol=1e-3)
    np.testing.assert_allclose(one.traffic.recorded[:frames], drives.position[:frames], atol=1e-4)
    # Float rounding may move a ray across an edge, not more.
    assert (np.abs(one.sensors["lidar"][:frames] - drives.sensors["lidar"][:frames]) > 1e-3).mean() < 1e-3


def test_other_vehicles_are_seen_and_take_power_away(drives):
    busy = dataclasses.replace(STREET, others=3, buildings=(Building(17.0),))
    crowded = simulate(jax.random.key(0), busy, 20)
    alone = jax.tree.map(lambda x: x[drives.drive <= 20], drives)
    assert (crowded.sensors["lidar"] > 0).mean() > 1.3 * (alone.sensors["lidar"] > 0).mean()
    weakest = np.percentile(alone.power.max(-1), 1)
    assert (crowded.power.max(-1) < weakest).mean() > 0.05


def test_perfect_hardware_is_the_steered_codebook_from_left_to_right():
    perfect = dataclasses.replace(STREET, phase_bits=0, phase_error=0.0, gain_ripple=0.0, sector=40.0)
    expected = np.exp(-1j * np.pi * np.sin(np.deg2rad(np.linspace(40, -40, 64)))[:, None] * np.arange(16)) / 4
    np.testing.assert_allclose(hardware_codebook(perfect), expected, atol=2e-6)


def test_two_bit_hardware_sets_four_phases():
    street = dataclasses.replace(STREET, phase_bits=2, phase_error=0.0, gain_ripple=0.0)
    quarter = np.angle(hardware_codebook(street)) / (np.pi / 2)
    np.testing.assert_allclose(quarter, np.round(quarter), atol=1e-5)
    assert len(np.unique(np.round(quarter) % 4)) == 4


def test_a_perfect_beam_at_the_middle_of_the_lane_has_power_one_over_the_floor():
    noises = ("lane_spread", "wander", "gps_spread", "acceleration", "speed_spread", "antenna_spread")
    errors = ("phase_error", "gain_ripple", "measurement_noise", "fading")
    street = dataclasses.replace(STREET, phase_bits=0, beams=201, **dict.fromkeys(noises + errors, 0.0))
    drive = simulate(jax.random.key(0), street, 1)
    near = np.abs(drive.position[:, 1]).argmin()
    oxygen = 10 ** (-0.015 * street.lane / 10)
    expected = oxygen + 10 ** (street.noise_floor / 10)
    np.testing.assert_allclose(drive.power[near].max(), expected, rtol=0.01)


def test_no_product_of_the_simulator_is_rounded_on_an_accelerator():
    lowered = jax.jit(simulate_drive, static_argnums=1).lower(jax.random.key(0), dataclasses.replace(STREET, others=2))
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert len(products) > 3
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products), products


def test_asking_for_no_drives_is_an_error():
    with pytest.raises(InputError, match="^drives: expected at least 1, found 0$"):
        simulate(jax.random.key(0), STREET, 0)


@pytest.mark.parametrize("devices", [0, 1000])
def test_devices_that_are_not_there_are_an_error(devices):
    present = jax.local_device_count()
    with pytest.raises(InputError, match=f"^devices: expected 1 to {present}, found {devices}$"):
        simulate(jax.random.key(0), STREET, 1, devices=devices)


def test_the_camera_sees_the_car_where_the_street_has_it():
    street = dataclasses.replace(STREET, max_frames=8, min_frames=8, gps_spread=0.0, start=3.0)
    drives = simulate(jax.random.key(6), street, 1, ("camera",))
    moved = np.asarray(motion_masks(drives.sensors["camera"]))
    column = (moved * np.arange(224)).sum((1, 2)) / moved.sum((1, 2))
    middle = np.asarray(drives.position) + camera.OFFSET
    expected = np.asarray(project(np.pad(middle, ((0, 0), (0, 1))))[0][:, 1])
    np.testing.assert_allclose(column, (expected[1:] + expected[:-1]) / 2, atol=8)


@pytest.mark.parametrize("sensors", ["lidar", ("sonar",)])
def test_a_sensor_that_there_is_not_is_an_error(sensors):
    with pytest.raises(
        InputError, match=r"^sensors: expected names out of \['camera', 'doppler', 'gps', 'lidar', 'radar'\], found "
    ):
        simulate(jax.random.key(0), STREET, 1, sensors)
