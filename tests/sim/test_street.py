import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.sim import Building, Street, drive_traffic
from beamkd.sim.street import smooth, smooth_draws

STREET = Street()


@pytest.fixture(scope="module")
def traffic():
    """Forty drives along the default street."""
    keys = jax.random.split(jax.random.key(0), 40)
    return jax.jit(jax.vmap(lambda key: drive_traffic(key, STREET)))(keys)


def test_streets_are_hashable_and_equal_by_value():
    built = Street(others=2, buildings=(Building(16.0),))
    assert hash(built) == hash(Street(others=2, buildings=(Building(16.0),)))
    assert built == Street(others=2, buildings=(Building(16.0),)) != Street()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_frames", 0),
        ("min_frames", 100),
        ("antennas", 2.5),
        ("others", -1),
        ("lane", -3.0),
        ("speed", float("nan")),
        ("speed_spread", -0.1),
        ("dropout", 1.5),
        ("clutter", -0.1),
        ("slowing", 1.0),
        ("sector", 120.0),
        ("end", 9.3),
        ("body_offset", (1.0,)),
        ("noise_floor", "low"),
        ("buildings", [Building(16.0)]),
        ("other_lanes", ()),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected_and_found(field, value):
    with pytest.raises(InputError, match=rf"^Street\.{field}: expected .+, found .+$"):
        Street(**{field: value})


@pytest.mark.parametrize("bad", [{"material": "cheese"}, {"start": 3.0, "end": 2.0}])
def test_a_bad_building_is_named(bad):
    with pytest.raises(InputError, match=r"^Building\.\w+: expected .+, found .+$"):
        Building(16.0, **bad)


def test_every_field_is_documented():
    for config in (Street, Building):
        documented = inspect.getdoc(config).split("Attributes:")[1]
        for field in dataclasses.fields(config):
            assert f"\n  {field.name}: " in documented


def test_the_car_drives_forward_within_its_record(traffic):
    frames, recorded = np.asarray(traffic.frames), np.asarray(traffic.recorded)
    assert (frames >= STREET.min_frames).all() and (frames <= STREET.max_frames).all()
    assert (np.diff(recorded[..., 1]) < 0).all()
    np.testing.assert_allclose(recorded[:, 0, 1], STREET.start, atol=1e-4)
    for track, count in zip(recorded, frames, strict=True):
        assert track[count - 1, 1] > STREET.end - 2.5 * STREET.end_spread - 1e-3


def test_velocity_and_heading_follow_the_track(traffic):
    step = np.diff(np.asarray(traffic.antenna), axis=1)
    middle = (step[:, 1:] + step[:, :-1]) / 2
    velocity = np.asarray(traffic.velocity)[:, 1:-1]
    np.testing.assert_allclose(velocity, middle / STREET.slot_seconds, atol=1e-4)
    heading = np.asarray(traffic.vehicles.heading[:, 1:-1, 0])
    np.testing.assert_allclose(heading, np.arctan2(middle[..., 1], middle[..., 0]), atol=1e-4)


def test_the_body_is_where_the_offset_puts_it_but_for_the_spread_along_the_car(traffic):
    expected = np.asarray(traffic.antenna) + STREET.body_offset
    away = np.linalg.norm(np.asarray(traffic.vehicles.centre[:, :, 0]) - expected, axis=-1)
    assert away.max() < 2.5 * STREET.antenna_spread + 1e-3 and away.std() > 0.1


def test_a_car_may_drive_the_other_way():
    traffic = drive_traffic(jax.random.key(0), Street(start=-9.0, end=8.0))
    recorded = np.asarray(traffic.recorded)[: int(traffic.frames), 1]
    assert (np.diff(recorded) > 0).all() and recorded[0] == pytest.approx(-9.0, abs=1e-4)
    assert np.cos(np.asarray(traffic.vehicles.heading)[:, 0] - np.pi / 2).min() > 0.5


def test_other_vehicles_move_steadily_and_those_of_a_lane_never_overlap():
    street = Street(others=5)
    traffic = jax.jit(drive_traffic, static_argnums=1)(jax.random.key(3), street)
    centre = np.asarray(traffic.vehicles.centre)[:, 1:]
    assert traffic.vehicles.size.shape == (street.max_frames, 6, 2)
    step = np.diff(centre, axis=0) / street.slot_seconds
    expected = np.broadcast_to(np.asarray(traffic.other_velocity), step.shape)
    np.testing.assert_allclose(step, expected, atol=1e-2)
    assert (traffic.other_velocity[::2, 1] > 0).all() and (traffic.other_velocity[1::2, 1] < 0).all()
    for lane in (centre[:, ::2, 1], centre[:, 1::2, 1]):
        assert np.abs(np.diff(lane, axis=1)).min() > 9


def test_smooth_noise_has_unit_variance_and_neighbours_agree():
    white = jax.random.normal(jax.random.key(4), (4000, smooth_draws(20, 5.0)))
    course = np.asarray(jax.vmap(lambda w: smooth(w, 20, 5.0))(white))
    assert course.shape == (4000, 20)
    np.testing.assert_allclose(course.var(0), 1.0, atol=0.1)
    # Two Gaussian windows of width w at a distance d overlap by exp(-d^2 / (2 w^2)).
    correlation = (course[:, 5] * course[:, 10]).mean()
    assert abs(correlation - np.exp(-0.5)) < 0.06


def test_walls_stand_where_the_buildings_are():
    walls = Street(buildings=(Building(16.0, -5.0, 7.0), Building(-3.0, material="glass"))).walls
    np.testing.assert_allclose(walls.start, [[16.0, -5.0], [-3.0, -40.0]])
    np.testing.assert_allclose(walls.end, [[16.0, 7.0], [-3.0, 40.0]])
    assert walls.permittivity.dtype == jnp.complex64 and walls.permittivity[1].real > walls.permittivity[0].real
