"""Streets of a family: within their ranges, each by its number alone, and as unlike as they should be."""

import dataclasses
import inspect
import math

import jax
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.sim import Family, Street, drive_traffic, simulate
from beamkd.sim.family import RANGES

FAMILY = Family()
STREETS = [FAMILY.street(number) for number in range(200)]


def test_what_is_drawn_is_in_its_range_and_reaches_both_ends_of_it():
    for name in {field.name for field in dataclasses.fields(Street)} & {*RANGES} - {"second_lane"}:
        least, greatest = getattr(FAMILY, name)
        drawn = np.array([getattr(street, name) for street in STREETS])
        assert least <= drawn.min() and drawn.max() <= greatest, name
        assert np.ptp(drawn) > 0.9 * (greatest - least), name
    across, along = np.array([street.body_offset for street in STREETS]).T
    assert FAMILY.body_across[0] <= across.min() and along.max() <= FAMILY.body_along[1]
    lanes = np.log([street.lane for street in STREETS])
    assert np.median(lanes) == pytest.approx(np.mean(np.log(FAMILY.lane)), abs=0.2)  # as uniform logarithms have it


def test_records_end_at_the_angles_that_were_drawn_and_cars_take_the_time():
    for street in STREETS:
        ends = np.rad2deg(np.arctan(np.abs([street.start, street.end]) / street.lane))
        assert (ends > FAMILY.ends[0] - 0.1).all() and (ends < FAMILY.ends[1] + 0.1).all()
        assert street.start * street.end < 0 and street.speed <= FAMILY.fastest
        slots = abs(street.start - street.end) / street.speed
        assert slots > FAMILY.slots[0] - 0.5 and (slots < FAMILY.slots[1] + 0.5 or street.speed == FAMILY.fastest)


def test_half_of_the_streets_have_what_half_of_them_should():
    shares = {
        "second lane": [street.second_lane is not None for street in STREETS],
        "the other way": [street.start < street.end for street in STREETS],
        "traffic": [street.others > 0 for street in STREETS],
        "two ways": [street.two_way for street in STREETS if street.second_lane],
    }
    for name, has in shares.items():
        assert np.mean(has) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(has))), name
    assert not any(street.two_way for street in STREETS if street.second_lane is None)
    np.testing.assert_allclose(np.std([street.drift for street in STREETS]), FAMILY.drift, rtol=0.2)


def test_a_street_depends_on_its_number_and_on_what_it_is_like():
    assert FAMILY.street(7) == STREETS[7] and len(set(STREETS)) == len(STREETS)
    like = Street(beams=32, max_frames=40)
    assert FAMILY.street(7, like) == dataclasses.replace(STREETS[7], beams=32, max_frames=40)
    narrow = dataclasses.replace(FAMILY, lane=(9.0, 9.0))
    assert narrow.street(7).lane == 9.0 and narrow.street(7).boresight == STREETS[7].boresight


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lane", (9.0, 6.0)),
        ("lane", (-1.0, 6.0)),
        ("slots", (1.0, math.nan)),
        ("drift", -1.0),
        ("fading", (0.0, math.inf)),
    ],
)
def test_an_empty_range_is_refused(field, value):
    with pytest.raises(InputError, match=rf"^Family\.{field}: expected .+, found "):
        Family(**{field: value})


def test_what_a_street_cannot_have_is_refused():
    with pytest.raises(InputError, match=r"^Street\.dropout: expected a share from 0 to 1, found 2"):
        Family(dropout=(2.0, 3.0)).street(0)


def test_many_streets_are_simulated_at_once_each_drive_on_its_own():
    numbers = [number for number, street in enumerate(STREETS) if not street.others][:3]
    streets = Family(drift=0.0).streets(numbers)
    with pytest.raises(InputError, match="^street: expected one, or one for each of 4 drives, found 3$"):
        simulate(jax.random.key(5), streets, 4)
    assert streets.lane.shape == (3,) and streets.lane.tolist() == [STREETS[number].lane for number in numbers]
    drives = jax.device_get(simulate(jax.random.key(5), streets, 3))
    alone = jax.device_get(simulate(jax.random.key(5), Family(drift=0.0).street(numbers[1]), 2))
    own, last = drives.drive == 2, alone.drive == 2
    np.testing.assert_allclose(drives.sensors["lidar"][own], alone.sensors["lidar"][last], atol=1e-3)
    np.testing.assert_allclose(drives.power[own], alone.power[last], rtol=1e-3)


def test_vehicles_that_a_street_has_not_are_far_from_it():
    with_and_without = [next(n for n, street in enumerate(STREETS) if street.others == count) for count in (0, 1, 2)]
    streets, traffic = FAMILY.streets(with_and_without), jax.jit(drive_traffic)
    for drive, count in enumerate((0, 1, 2)):
        street = jax.tree.map(lambda leaf, drive=drive: leaf[drive], streets)
        across = np.abs(np.asarray(traffic(jax.random.key(0), street).vehicles.centre)[:, 1:, 0])
        assert (across.max(0) < 100).sum() == count and (across[:, across.max(0) > 100] > 9000).all()


def test_every_field_is_documented():
    documented = inspect.getdoc(Family).split("Attributes:")[1]
    for field in dataclasses.fields(Family):
        assert f"\n  {field.name}: " in documented


def test_beams_follow_the_cars_along_a_far_street_with_two_ways():
    number = next(number for number, street in enumerate(STREETS) if street.two_way and street.lane > 12)
    drives = jax.device_get(simulate(jax.random.key(0), STREETS[number], 12))
    moved = []
    for drive in range(1, 13):
        beams = drives.power.argmax(-1)[drives.drive == drive].astype(int)
        moved.append(beams[3 * len(beams) // 4] - beams[len(beams) // 4])
    assert min(moved) < -20 and max(moved) > 20  # both ways
    assert np.median((drives.sensors["lidar"] > 0).sum(-1)) > 3
