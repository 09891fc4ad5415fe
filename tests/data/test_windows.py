"""Windows, splits and batches: by hand, and against a program in plain Python that looks every frame up."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beamkd.base import MISSING, Drives, InputError, Rows
from beamkd.data import make_windows, split_drives
from beamkd.data.windows import FRACTIONS, gather, select, stack_splits
from beamkd.training import all_rows

TRACKS = Path(__file__).parents[2] / ".." / "shared" / "data" / "scenario8_tracks.npz"
BEAMS = 7


def recording(slots_of):
    """Drives from a list of (number, slots); frame f has f in its scan and its best beam, f mod 7, the power f + 1."""
    drive = np.concatenate([np.full(len(slots), number) for number, slots in slots_of])
    slot = np.concatenate([np.asarray(slots) for _, slots in slots_of])
    frame = np.arange(len(drive))
    power = np.zeros((len(drive), BEAMS), np.float32)
    power[frame, frame % BEAMS] = frame + 1
    return Drives(
        sensors={"lidar": np.repeat(frame[:, None], 4, axis=1).astype(np.float32), "index": frame},
        power=power,
        position=np.zeros((len(drive), 2), np.float32),
        drive=drive.astype(np.int32),
        slot=slot.astype(np.int32),
    )


def rows(*index, padded=()):
    return Rows(jnp.array(index), jnp.array([place not in padded for place in range(len(index))]))


@pytest.fixture(scope="module")
def windows():
    """Twelve drives of one to three windows of two frames."""
    return make_windows(recording([(n, range(2 + n % 3)) for n in range(12)]), observed=2, future=1)


def test_windows_of_two_drives_by_hand():
    windows = make_windows(recording([(5, range(5)), (2, range(3))]), observed=3, future=2)
    assert len(windows) == 4
    np.testing.assert_array_equal(windows.observed, [[0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7]])
    np.testing.assert_array_equal(windows.predicted, [[2, 3, 4], [3, 4, -1], [4, -1, -1], [7, -1, -1]])
    np.testing.assert_array_equal(windows.drive, [5, 5, 5, 2])
    assert {windows.observed.dtype, windows.predicted.dtype, windows.drive.dtype} == {jnp.dtype("int32")}


def test_a_gap_ends_the_windows_before_it_and_leaves_a_slot_without_label():
    # Rows 0 … 6 are slots 0, 1, 2, 4, 5, 6, 8.
    windows = make_windows(recording([(0, [0, 1, 2, 4, 5, 6, 8])]), observed=2, future=3)
    np.testing.assert_array_equal(windows.observed, [[0, 1], [1, 2], [3, 4], [4, 5]])
    np.testing.assert_array_equal(windows.predicted, [[1, 2, -1, 3], [2, -1, 3, 4], [4, 5, -1, 6], [5, -1, 6, -1]])


def test_short_drives_have_no_windows():
    windows = make_windows(recording([(1, range(2)), (2, range(3)), (3, range(2)), (4, range(4))]), 3, 1)
    np.testing.assert_array_equal(windows.drive, [2, 4, 4])


def test_neighbouring_drives_whose_slots_happen_to_continue_are_not_crossed():
    windows = make_windows(recording([(1, range(3)), (2, range(3, 6))]), observed=3, future=2)
    np.testing.assert_array_equal(windows.observed, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(windows.predicted, [[2, -1, -1], [5, -1, -1]])


def test_one_frame_and_no_future_is_a_window_a_frame():
    windows = make_windows(recording([(1, [0, 5]), (2, [0])]), observed=1, future=0)
    np.testing.assert_array_equal(windows.observed, [[0], [1], [2]])
    np.testing.assert_array_equal(windows.predicted, [[0], [1], [2]])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("observed", "future"), [(8, 3), (3, 0), (2, 6)])
def test_windows_are_those_found_by_looking_every_frame_up(seed, observed, future):
    rng = np.random.default_rng(seed)
    slots_of = [
        (number, np.flatnonzero(rng.random(rng.integers(1, 40)) > 0.1) + rng.integers(0, 3))
        for number in rng.permutation(9)
    ]
    drives = recording([(number, slots) for number, slots in slots_of if len(slots)])
    row_of = {at: row for row, at in enumerate(zip(drives.drive.tolist(), drives.slot.tolist(), strict=True))}
    expected = []
    for number, slot in row_of:
        seen = [row_of.get((number, slot + step)) for step in range(observed)]
        if None not in seen:
            current = slot + observed - 1
            asked = [row_of.get((number, current + ahead), -1) for ahead in range(future + 1)]
            expected.append((number, seen, asked))
    windows = make_windows(drives, observed, future)
    np.testing.assert_array_equal(windows.drive, [number for number, _, _ in expected])
    np.testing.assert_array_equal(windows.observed, [seen for _, seen, _ in expected])
    np.testing.assert_array_equal(windows.predicted, [asked for _, _, asked in expected])


@pytest.mark.skipif(not TRACKS.is_file(), reason="measured tracks are not at hand")
def test_scenario_8_has_3462_windows():
    with np.load(TRACKS) as archive:
        drive, power = archive["drive"], archive["power"]
    lengths = np.unique(drive, return_counts=True)[1]
    slot = np.concatenate([np.arange(length) for length in lengths])
    drives = Drives({}, power, np.zeros((len(drive), 2), np.float32), drive, slot)
    windows = make_windows(drives)
    assert len(windows) == 3462
    assert (lengths.size, lengths.sum()) == (83, 4043)
    np.testing.assert_array_equal((windows.predicted < 0).sum(0), [0, 83, 166, 249])
    batch = gather(windows, all_rows(len(windows)))
    np.testing.assert_array_equal(batch.labels[:, 0], power.argmax(-1)[np.asarray(windows.observed)[:, -1]])


@pytest.mark.parametrize(
    ("slots_of", "longest"),
    [([(1, range(7)), (2, range(6))], 7), ([(1, [*range(5), *range(6, 12)]), (2, range(4))], 6), ([(1, [])], 0)],
    ids=["short drives", "gaps", "nothing"],
)
def test_no_window_at_all_is_an_error_that_tells_the_longest_run_of_frames(slots_of, longest):
    with pytest.raises(InputError, match=f"drive of 8 frames in a row or more, found at most {longest}$"):
        make_windows(recording(slots_of))


@pytest.mark.parametrize(("observed", "future"), [(0, 3), (8, -1)])
def test_a_window_without_frames_or_of_negative_future_is_an_error(observed, future):
    with pytest.raises(InputError, match=f"found {observed} and {future}"):
        make_windows(recording([(1, range(9))]), observed, future)


@pytest.mark.parametrize("wrap", [lambda function: function, jax.jit])
def test_gather_takes_frames_labels_and_powers_of_the_rows(wrap):
    windows = make_windows(recording([(5, range(5)), (2, range(12))]), observed=3, future=2)
    batch = wrap(gather)(windows, rows(1, 6, 6, padded=[2]))
    np.testing.assert_array_equal(batch.sensors["index"], [[1, 2, 3], [8, 9, 10], [8, 9, 10]])
    assert batch.sensors["lidar"].shape == (3, 3, 4)
    np.testing.assert_array_equal(batch.sensors["lidar"][..., 0], batch.sensors["index"])
    np.testing.assert_array_equal(batch.labels, [[3, 4, MISSING], [10 % 7, 11 % 7, 12 % 7], [MISSING] * 3])
    np.testing.assert_array_equal(batch.power.sum(-1), [[4, 5, 0], [11, 12, 13], [0, 0, 0]])
    np.testing.assert_array_equal(batch.power[:2].argmax(-1), [[3, 4, 0], [10 % 7, 11 % 7, 12 % 7]])
    np.testing.assert_array_equal(batch.mask, [True, True, False])


def test_gather_under_vmap_serves_every_member_its_own_rows(windows):
    index = jnp.array([[0, 3], [5, 1]])
    together = jax.vmap(gather, (None, 0))(windows, Rows(index, jnp.ones((2, 2), bool)))
    for member in range(2):
        alone = gather(windows, rows(*index[member]))
        np.testing.assert_array_equal(together.labels[member], alone.labels)
        np.testing.assert_array_equal(together.sensors["lidar"][member], alone.sensors["lidar"])


def test_select_takes_rows_of_a_batch_and_those_padded_are_missing(windows):
    batch = gather(windows, rows(0, 3, 7, 4, padded=[3]))
    chosen = select(batch, rows(2, 0, 0, 3, padded=[2]))
    np.testing.assert_array_equal(chosen.mask, [True, True, False, False])
    expected = gather(windows, rows(7, 0, 0, 4, padded=[2, 3]))
    jax.tree.map(np.testing.assert_array_equal, chosen, expected)


def parts_of(split, windows):
    assert all(part.mask.all() and part.mask.shape == part.index.shape for part in (split.train, split.val, split.test))
    return [set(np.asarray(windows.drive)[part.index].tolist()) for part in (split.train, split.val, split.test)]


@pytest.mark.parametrize(("order", "counts"), [("random", (7, 1, 4)), ("inorder", (8, 1, 3))])
def test_every_window_is_in_one_part_and_no_drive_in_two(windows, order, counts):
    split = split_drives(jax.random.key(0), windows, order)
    dealt = np.concatenate([split.train.index, split.val.index, split.test.index])
    np.testing.assert_array_equal(np.sort(dealt), np.arange(len(windows)))
    parts = parts_of(split, windows)
    assert tuple(map(len, parts)) == counts  # 60 / 15 and 70 / 15 % of 12 drives, rounded down; the rest
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    for part in (split.train, split.val, split.test):
        np.testing.assert_array_equal(part.index, np.sort(part.index))


def test_in_order_means_by_number_of_the_drive():
    shuffled = make_windows(recording([(n, range(2 + n % 2)) for n in (7, 1, 9, 4, 0, 3)]), observed=2, future=0)
    split = split_drives(jax.random.key(0), shuffled, "inorder", (0.5, 1 / 3, 1 / 6))
    assert parts_of(split, shuffled) == [{0, 1, 3}, {4, 7}, {9}]


def test_random_order_follows_the_key(windows):
    by_seed = [parts_of(split_drives(jax.random.key(seed), windows), windows) for seed in range(6)]
    assert by_seed[0] == parts_of(split_drives(jax.random.key(0), windows, "random"), windows)
    assert len({tuple(sorted(train)) for train, _, _ in by_seed}) > 3
    assert any(train != set(range(7)) for train, _, _ in by_seed)


def test_shares_that_are_whole_numbers_of_drives_are_not_rounded_down_once_more():
    many = make_windows(recording([(n, range(2)) for n in range(90)]), observed=2, future=0)
    split = split_drives(jax.random.key(0), many, "inorder", (0.7, 0.1, 0.2))  # 0.7 * 90 is just under 63 in float64
    assert list(map(len, parts_of(split, many))) == [63, 9, 18]


@pytest.mark.parametrize("order", ["inorder", "random"])
def test_drives_of_each_place_are_dealt_out_by_themselves(order):
    many = make_windows(recording([(n, range(2)) for n in range(1, 31)]), observed=2, future=0)
    places = np.repeat([0, 1], [11, 20])  # there is no drive 0
    dealt = parts_of(split_drives(jax.random.key(0), many, order, (0.5, 0.2, 0.3), places), many)
    assert set.union(*dealt) == set(range(1, 31))
    assert [sum(n <= 10 for n in part) for part in dealt] == [5, 2, 3]
    assert [sum(n > 10 for n in part) for part in dealt] == [10, 4, 6]
    if order == "inorder":
        assert dealt[2] == {8, 9, 10, 25, 26, 27, 28, 29, 30}
    with pytest.raises(InputError, match="found 1 drives"):
        split_drives(jax.random.key(0), many, order, places=np.arange(31) == 30)


def test_default_shares_sum_to_one():
    assert FRACTIONS == {"random": (0.60, 0.15, 0.25), "inorder": (0.70, 0.15, 0.15)}


def test_splits_that_leave_a_part_empty_are_errors(windows):
    six = make_windows(recording([(n, range(2)) for n in range(6)]), observed=2, future=0)
    with pytest.raises(InputError, match="found 6 drives"):
        split_drives(jax.random.key(0), six)  # 15 % of 6 is no drive
    with pytest.raises(InputError, match="found 12 drives"):
        split_drives(jax.random.key(0), windows, fractions=(0.5, 0.5, 0.0))


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (0.9, 0.3, -0.2), (60, 15, 25)])
def test_shares_that_do_not_sum_to_one_are_errors(windows, fractions):
    with pytest.raises(InputError, match="sum to 1"):
        split_drives(jax.random.key(0), windows, fractions=fractions)


def test_an_unknown_order_is_an_error_that_names_the_known_ones(windows):
    with pytest.raises(InputError, match="one of random, inorder, found sorted"):
        split_drives(jax.random.key(0), windows, "sorted")


def test_stacked_splits_are_padded_with_masked_rows(windows):
    splits = [split_drives(jax.random.key(seed), windows) for seed in range(4)]
    lengths = {len(split.train.index) for split in splits}
    assert len(lengths) > 1
    stacked = stack_splits(splits)
    assert stacked.train.index.shape == stacked.train.mask.shape == (4, max(lengths))
    assert stacked.train.mask.dtype == bool
    for member, split in enumerate(splits):
        for part in ("train", "val", "test"):
            together, alone = getattr(stacked, part), getattr(split, part)
            np.testing.assert_array_equal(together.index[member][together.mask[member]], alone.index)
            assert together.mask[member].sum() == len(alone.index)
