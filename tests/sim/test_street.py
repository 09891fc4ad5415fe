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
        ("drift", (1.0, float("inf"))),
        ("second_lane", -3.0),
        ("second_lane", float("nan")),
        ("lidar_view", 0.0),
        ("noise_floor", "low"),
        ("buildings", [Building(16.0)]),
        ("other_lanes", ()),
        ("other_lanes", [5.8, 13.6]),
        ("other_lanes", (5.8, float("inf"))),
        ("other_lanes", (5.8, 8.5)),
        ("body_offset", [-2.6, 1.1]),
        ("body_offset", (float("nan"), 1.1)),
        ("buildings", ("concrete",)),
        ("max_frames", 1),
        ("beams", True),
        ("hardware_seed", -1),
        ("hardware_seed", 2**31),
        *(
            (field.name, value)
            for field in dataclasses.fields(Street)
            if field.type is float
            for value in (float("inf"), float("-inf"), float("nan"))
        ),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected_and_found(field, value):
    with pytest.raises(InputError, match=rf"^Street\.{field}: expected .+, found .+$"):
        Street(**{field: value})


@pytest.mark.parametrize(
    "bad",
    [{"material": "cheese"}, {"start": 3.0, "end": 2.0}, {"start": float("-inf")}, {"end": float("nan")}]
    + [{"distance": value} for value in (0.0, float("inf"), float("nan"), "far")],
)
def test_a_bad_building_is_named(bad):
    with pytest.raises(InputError, match=r"^Building\.\w+: expected .+, found .+$"):
        Building(**{"distance": 16.0, **bad})


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
    traffic = jax.jit(drive_traffic, static_argnums=1)(jax.random.key(0), Street(start=-9.0, end=8.0))
    recorded = np.asarray(traffic.recorded)[: int(traffic.frames), 1]
    assert (np.diff(recorded) > 0).all() and recorded[0] == pytest.approx(-9.0, abs=1e-4)
    assert np.cos(np.asarray(traffic.vehicles.heading)[:, 0] - np.pi / 2).min() > 0.5


def test_other_vehicles_move_steadily_in_their_lanes_and_those_of_a_lane_never_overlap():
    street = Street(others=5, other_lanes=(2.5, 14.0))  # the served car is far away
    traffic = jax.jit(drive_traffic, static_argnums=1)(jax.random.key(3), street)
    centre = np.asarray(traffic.vehicles.centre)[:, 1:]
    assert traffic.vehicles.size.shape == (street.max_frames, 6, 2)
    step = np.diff(centre, axis=0) / street.slot_seconds
    expected = np.broadcast_to(np.asarray(traffic.other_velocity), step.shape)
    np.testing.assert_allclose(step, expected, atol=1e-2)
    assert (traffic.other_velocity[::2, 1] > 0).all() and (traffic.other_velocity[1::2, 1] < 0).all()
    for number, lane in enumerate(street.other_lanes):
        assert np.abs(centre[..., number::2, 0] - lane).max() <= 0.3 + 1e-5
        assert np.abs(np.diff(centre[:, number::2, 1], axis=1)).min() > 9


def corners(boxes):
    """[..., 4, 2] m."""
    along = np.stack([np.cos(boxes.heading), np.sin(boxes.heading)], -1)
    along, across = along * boxes.size[..., :1] / 2, along[..., ::-1] * [-1, 1] * boxes.size[..., 1:] / 2
    return np.asarray(boxes.centre)[..., None, :] + np.stack([a * along + b * across for a, b in SIGNS], -2)


SIGNS = [(1, 1), (1, -1), (-1, -1), (-1, 1)]


def apart(one, other, heading):
    """Whether a line along or across a heading has the convex shapes [..., corners, 2] on different sides."""
    found = False
    for turned in (heading, heading + np.pi / 2):
        axis = np.stack([np.cos(turned), np.sin(turned)], -1)[..., None]
        first, second = (one @ axis)[..., 0], (other @ axis)[..., 0]
        found |= (first.max(-1) < second.min(-1)) | (second.max(-1) < first.min(-1))
    return found


@pytest.mark.parametrize(
    "street",
    [
        Street(others=5, lane_spread=1.0, wander=1.0, antenna_spread=0.65),
        Street(others=4, other_lanes=(7.1, 9.9), start=-9.0, end=8.0, body_offset=(2.0, 0.0)),
    ],
    ids=["wandering", "in its lane"],
)
def test_no_vehicle_drives_through_another_or_over_the_served_cars_antenna(street):
    keys = jax.random.split(jax.random.key(1), 60)
    traffic = jax.device_get(jax.jit(jax.vmap(lambda key: drive_traffic(key, street)))(keys))
    boxes = jax.tree.map(lambda leaf: leaf.astype(np.float64), traffic.vehicles)
    shapes, antenna = corners(boxes), traffic.antenna[..., None, :].astype(np.float64)
    for one in range(street.others + 1):
        for other in range(one):
            clear = apart(shapes[:, :, one], shapes[:, :, other], boxes.heading[..., one])
            clear |= apart(shapes[:, :, one], shapes[:, :, other], boxes.heading[..., other])
            assert clear.all(), (one, other)
        if one:
            assert apart(shapes[:, :, one], antenna, boxes.heading[..., one]).all()


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


def test_half_of_the_drives_go_in_a_second_lane_and_there_the_other_way():
    street = Street(second_lane=20.0, two_way=True, lane_spread=0.1)
    keys = jax.random.split(jax.random.key(0), 60)
    traffic = jax.device_get(jax.jit(jax.vmap(lambda key: drive_traffic(key, street)))(keys))
    second = traffic.antenna[:, 0, 0] > 15
    assert 15 < second.sum() < 45
    for drive, far in enumerate(second):
        recorded = traffic.recorded[drive, : traffic.frames[drive]]
        way = np.diff(recorded[[0, -1], 1]).item()
        assert way > 10 if far else way < -10
        assert recorded[0, 1] == pytest.approx(street.end if far else street.start, abs=1e-4)
        np.testing.assert_allclose(recorded[:, 0].mean(), 20.0 if far else street.lane, atol=1.5)


def test_the_car_seems_to_drift_from_drive_to_drive_but_not_for_the_radio():
    street, key = Street(drift=(0.5, -2.0)), jax.random.key(0)
    drive = jax.jit(drive_traffic, static_argnums=1)
    first, later, plain = drive(key, street, 0), drive(key, street, 50), drive(key, Street())
    np.testing.assert_allclose(
        later.vehicles.centre - first.vehicles.centre, np.full((64, 1, 2), (0.25, -1)), atol=1e-5
    )
    np.testing.assert_allclose(later.recorded - first.recorded, np.full((64, 2), (0.25, -1)), atol=1e-5)
    np.testing.assert_array_equal(later.antenna, plain.antenna)
    assert later.frames == plain.frames
