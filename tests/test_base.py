"""What is kept of an object's methods."""

import dataclasses
import gc
import weakref

import pytest

from beamkd.base import cached_method


@pytest.fixture
def kind():
    @dataclasses.dataclass(frozen=True)
    class Counted:
        """A frozen dataclass that cannot be hashed."""

        calls: list[tuple[int, int]]

        @cached_method
        def added(self, first: int, second: int = 0) -> list[int]:
            """A sum in a list of its own."""
            self.calls.append((first, second))
            return [first + second]

    return Counted


def test_results_are_kept_by_arguments_and_by_object(kind):
    one, other = kind([]), kind([])
    assert one.added(1) is one.added(1) and one.added(1) == [1] and one.added(1, 2) == [3]
    assert other.added(1) is not one.added(1)
    assert one.calls == [(1, 0), (1, 2)] and other.calls == [(1, 0)]
    assert dataclasses.replace(one, calls=[]).added(1) is not one.added(1)


def test_results_go_with_their_object(kind):
    one = kind([])
    one.added(1)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
