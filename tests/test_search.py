"""Streets that look to a teacher as its metadata say: distances by NumPy, rounds that narrow, a road that is found."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import InputError, Rows
from beamkd.data import forward_of, gather, initial_model, make_windows
from beamkd.inversion import layers_of, summarize
from beamkd.models import GruTeacher
from beamkd.search import StreetSearch, distance, matching_families, narrowed
from beamkd.sim import Family, Street, simulate
from beamkd.training import Trainer

SPEC = {"lidar": jax.ShapeDtypeStruct((8, 216), jnp.float32)}
SMALL = StreetSearch(rounds=2, streets=60, drives=1, windows=8, kept=0.1)


@pytest.fixture(scope="module")
def teacher():
    module = GruTeacher()
    return initial_model(jax.vmap(jax.random.key)(jnp.arange(2)), module, SPEC)


def owned(teacher, lane):
    """Windows along a street, and each member's metadata of them."""
    windows = make_windows(simulate(jax.random.key(5), Street(lane=lane, lane_spread=0.0), 6))
    rows = Rows(np.arange(len(windows)), np.ones(len(windows), bool))
    forward, members = forward_of(teacher), []
    for member in range(2):
        params = jax.tree.map(lambda leaf, member=member: leaf[member], teacher.params)
        members.append(summarize(forward, params, windows, rows, gather))
    return windows, jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def test_the_distance_by_numpy_is_of_all_layers_and_not_known_without_windows(teacher):
    windows, summaries = owned(teacher, 9.0)
    params, summary = jax.tree.map(lambda leaf: leaf[0], (teacher.params, summaries))
    rows = Rows(np.arange(12), np.arange(12) < 9)
    batch = gather(windows, rows)
    far = jax.jit(functools.partial(distance, forward_of(teacher)))
    found = far(params, summary, batch)
    layers, expected = layers_of(forward_of(teacher)(params, batch, None)), 0.0
    for name, own in summary.layers.items():
        values = np.asarray(layers[name], float)[:9]
        least = 1e-6 * np.mean(own.variance)
        spread, there = np.sqrt(own.variance + least), np.sqrt(values.var(0, ddof=1) + least)
        expected += np.mean(((values.mean(0) - own.mean) / spread) ** 2 + ((there - spread) / spread) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    nobody = dataclasses.replace(batch, mask=np.zeros(12, bool))
    assert np.isnan(far(params, summary, nobody))


def test_rounds_narrow_a_family_to_the_nearest_streets_and_keep_none_whose_distance_is_not_known():
    search, tried = StreetSearch(rounds=3, streets=50, kept=0.1), []

    def distances(number, numbers, families):
        assert number == len(tried) and len(families) == 1
        lanes = np.array([families[0].street(each).lane for each in numbers.tolist()])
        tried.append(lanes)
        return [np.where(lanes > 12, np.nan, np.abs(lanes - 11))]

    (found,) = narrowed(distances, search, [Family()], first=40)
    assert [len(lanes) for lanes in tried] == [50] * 3
    np.testing.assert_allclose(tried[0], [Family().street(number).lane for number in range(40, 90)])
    for before, after in zip(tried, [*tried[1:], None], strict=True):
        own = np.where(before > 12, np.inf, np.abs(before - 11))
        nearest = before[np.argsort(own, kind="stable")[:5]]
        low, high = found.lane if after is None else (after.min(), after.max())
        assert nearest.min() - 0.006 <= low and high <= nearest.max() + 0.006
        assert after is not None or found.lane == pytest.approx((nearest.min(), nearest.max()))
    assert narrowed(None, StreetSearch(rounds=0), [Family()]) == [Family()]


def test_the_family_of_some_streets_is_the_least_that_has_them():
    family, numbers = Family(), [3, 4, 7]
    streets, found = [family.street(number) for number in numbers], family.narrowed([3, 4, 7])
    for name in ("lane", "dropout", "car_length", "boresight"):
        values = [getattr(street, name) for street in streets]
        assert getattr(found, name) == (min(values), max(values)), name
    across = [street.body_offset[0] for street in streets]
    assert found.body_across == (min(across), max(across)) and found.fastest == family.fastest
    wide = [street for street in streets if street.second_lane is not None]
    assert found.two_lanes == pytest.approx(len(wide) / 3)
    assert found.traffic == pytest.approx(np.mean([street.others > 0 for street in streets]))
    assert found.backwards == pytest.approx(np.mean([street.start < 0 for street in streets]))
    if wide:
        beyond = [street.second_lane - street.lane for street in wide]
        np.testing.assert_allclose(found.second_lane, (min(beyond), max(beyond)), atol=0.006)


def test_a_teachers_metadata_tell_how_far_its_owners_road_is_and_in_which_direction_cars_go(teacher):
    _, summaries = owned(teacher, 9.0)
    families = matching_families(Trainer(), jax.random.key(1), teacher, summaries, SPEC, 3, SMALL)
    assert len(families) == 2
    for family in families:
        low, high = family.lane
        assert 6 <= low < 10 and high < 16  # of 6 to 35
        assert family.backwards < 0.25  # of 0.5, along the default street none


def test_a_search_that_keeps_no_street_is_refused():
    with pytest.raises(InputError, match=r"expected to keep a share from 1 / 10 to 1, found 0\.05"):
        StreetSearch(streets=10, kept=0.05)
    with pytest.raises(InputError, match="rounds"):
        StreetSearch(rounds=-1)
