import errno
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from beamkd.base import InputError
from beamkd.training import FitConfig, Task, checkpoints, start
from beamkd.training.batches import all_rows


@pytest.fixture
def state():
    """A state of training, with numbers that are easily lost, and a leaf of each type."""
    params = {"kernel": jnp.array([[0.1, -0.0], [1e-45, jnp.nan]]), "bias": jnp.array([jnp.inf, 3e38])}
    fit_state = start(Task(lambda *_: (0.0, {"part": 0.0}), lambda *_: None, FitConfig()), params, None, all_rows(3))
    others = [jnp.array([1.5, -3.0], "bfloat16"), jnp.array([True, False]), jnp.array(2**31 - 1), jnp.uint8(200)]
    return {"fit": fit_state, "others": others}


@pytest.fixture
def refused(tmp_path):
    """A function that restores, which must fail in one line that names the folder; returns that line."""

    def restore(like):
        with pytest.raises(InputError) as caught:
            checkpoints.restore(tmp_path, "phase", like)
        text = str(caught.value)
        assert "\n" not in text
        assert str(tmp_path / "phase") in text
        return text

    return restore


def assert_same_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_what_is_restored_has_the_bits_types_and_structure_of_what_was_saved(tmp_path, state):
    checkpoints.save(tmp_path / "new" / "folder", "phase", state)
    assert_same_bits(checkpoints.restore(tmp_path / "new" / "folder", "phase", state), state)
    shapes = jax.eval_shape(lambda: state)
    assert_same_bits(checkpoints.restore(tmp_path / "new" / "folder", "phase", shapes), state)


def test_without_a_checkpoint_there_is_none(tmp_path, state):
    assert checkpoints.restore(tmp_path, "phase", state) is None
    assert checkpoints.restore(tmp_path / "nowhere", "phase", state) is None


def test_checkpoints_of_other_names_are_independent_and_a_later_one_replaces_its_own(tmp_path):
    for name, value in [("one", 1.0), ("two", 2.0), ("one", 3.0)]:
        checkpoints.save(tmp_path, name, {"w": jnp.array([value])})
    like = {"w": jnp.zeros(1)}
    assert checkpoints.restore(tmp_path, "one", like)["w"] == 3
    assert checkpoints.restore(tmp_path, "two", like)["w"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_relative_folder_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints.save(Path("runs"), "phase", {"w": jnp.ones(2)})
    np.testing.assert_array_equal(checkpoints.restore(Path("runs"), "phase", {"w": jnp.ones(2)})["w"], 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves reads behind that failed
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_to_any_file_is_refused_or_changes_nothing(tmp_path, state, damage):
    folder = tmp_path / "phase"
    checkpoints.save(tmp_path, "phase", state)
    refusals = 0
    for path in [path for path in sorted(folder.rglob("*")) if path.is_file()]:
        content = path.read_bytes()
        middle = len(content) // 2
        if damage == "flip" and content:
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :])
        elif damage == "cut":
            path.write_bytes(content[:middle])
        else:
            path.unlink()
        try:
            found = checkpoints.restore(tmp_path, "phase", state)
        except InputError as error:
            assert "\n" not in str(error)
            refusals += 1
        else:
            assert_same_bits(found, state)
        path.write_bytes(content)
    assert refusals > 0
    assert_same_bits(checkpoints.restore(tmp_path, "phase", state), state)


def test_weights_changed_behind_the_checksum_are_refused(tmp_path, monkeypatch, refused):
    honest = checkpoints._checksum
    monkeypatch.setattr(checkpoints, "_checksum", lambda state: honest(jax.tree.map(lambda leaf: leaf + 1, state)))
    checkpoints.save(tmp_path, "phase", {"w": jnp.ones(3)})
    monkeypatch.undo()
    assert "damaged" in refused({"w": jnp.ones(3)})


def test_an_empty_folder_or_a_file_in_its_place_is_refused(tmp_path, refused):
    (tmp_path / "phase").mkdir()
    refused({"w": jnp.ones(3)})
    (tmp_path / "phase").rmdir()
    (tmp_path / "phase").write_text("not a folder")
    refused({"w": jnp.ones(3)})


@pytest.mark.parametrize(
    "like",
    [
        {"w": jnp.ones(4), "b": jnp.ones(2)},
        {"w": jnp.ones(2), "b": jnp.ones(2)},
        {"w": jnp.ones((3, 1)), "b": jnp.ones(2)},
        {"w": jnp.ones(3)},
        {"w": jnp.ones(3), "b": jnp.ones(2), "c": jnp.ones(2)},
        {"w": jnp.ones(3), "c": jnp.ones(2)},
        {"w": jnp.ones(3), "b": {"c": jnp.ones(2)}},
        [jnp.ones(2), jnp.ones(3)],
        {"w": jnp.ones(3, "bfloat16"), "b": jnp.ones(2)},
        {"w": jnp.ones(3, int), "b": jnp.ones(2)},
    ],
    ids=["longer", "shorter", "rank", "fewer", "more", "renamed", "deeper", "list", "bfloat16", "int"],
)
def test_a_state_of_other_shapes_or_names_is_refused(tmp_path, refused, like):
    checkpoints.save(tmp_path, "phase", {"w": jnp.array([0.1, 0.2, 0.3]), "b": jnp.ones(2)})
    refused(like)


@pytest.mark.parametrize("digest", ["", "of another", "of this run "])
def test_a_checkpoint_with_another_digest_is_refused(tmp_path, refused, digest):
    checkpoints.save(tmp_path, "phase", {"w": jnp.ones(3)}, digest)
    with pytest.raises(InputError, match="another run"):
        checkpoints.restore(tmp_path, "phase", {"w": jnp.ones(3)}, "of this run")
    assert checkpoints.restore(tmp_path, "phase", {"w": jnp.ones(3)}, digest) is not None
    (tmp_path / "phase" / "digest").unlink()
    assert "another run" in refused({"w": jnp.ones(3)})


def test_what_cannot_be_removed_is_an_error_and_what_is_not_there_is_none(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        if not options.get("ignore_errors"):
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    options = {}
    monkeypatch.setattr("shutil.rmtree", lambda path, **given: (options.update(given), refuse(path)))
    checkpoints.save(tmp_path, "phase", {"w": jnp.ones(3)})
    with pytest.raises(InputError, match="phase.before: expected what can be removed, found: Operation not permitted"):
        checkpoints.save(tmp_path, "phase", {"w": jnp.zeros(3)})
    monkeypatch.undo()
    assert checkpoints.restore(tmp_path, "phase", {"w": jnp.ones(3)})["w"].tolist() == [0, 0, 0]


def test_remove_takes_files_links_and_folders(tmp_path):
    (tmp_path / "folder" / "within").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "folder", target_is_directory=True)
    checkpoints.remove(tmp_path / "link")
    assert (tmp_path / "folder" / "within").exists()
    (tmp_path / "file").write_text("")
    for name in ("file", "folder", "nothing"):
        checkpoints.remove(tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_a_crash_between_the_two_renames_loses_nothing(tmp_path, state):
    checkpoints.save(tmp_path, "phase", state)
    (tmp_path / "phase").rename(tmp_path / "phase.before")
    (tmp_path / "phase.writing").mkdir()
    assert_same_bits(checkpoints.restore(tmp_path, "phase", state), state)
    assert_same_bits(checkpoints.restore(tmp_path, "phase", state), state)


@pytest.mark.parametrize("moved", [False, True], ids=["after a clean save", "after a crash between the renames"])
def test_a_crash_while_writing_leaves_the_checkpoint_before(tmp_path, state, monkeypatch, moved):
    checkpoints.save(tmp_path, "phase", state)
    if moved:
        (tmp_path / "phase").rename(tmp_path / "phase.before")

    def crash(*_):
        (tmp_path / "phase.writing").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, "phase", jax.tree.map(jnp.zeros_like, state))
    monkeypatch.undo()
    assert_same_bits(checkpoints.restore(tmp_path, "phase", state), state)
    checkpoints.save(tmp_path, "phase", state["others"])
    assert_same_bits(checkpoints.restore(tmp_path, "phase", state["others"]), state["others"])
    assert [path.name for path in tmp_path.iterdir()] == ["phase"]
