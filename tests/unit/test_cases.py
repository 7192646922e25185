"""Tests that loop over cases run every one of them, and name the one that fails."""

from __future__ import annotations

import pytest
from helpers.cases import each

SEEN: list[tuple[str, int]] = []


@pytest.fixture
def fixture() -> int:
    return 7


@each("second", [1, 2])
@each(("first", "unused"), [("a", 0), ("b", 0)])
def test_each_runs_every_case_with_its_fixtures(
    fixture: int, first: str, unused: int, second: int
) -> None:
    assert (fixture, unused) == (7, 0)
    SEEN.append((first, second))


def test_no_case_was_left_out() -> None:
    assert SEEN == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_the_case_that_fails_is_named() -> None:
    @each("number", range(5))
    def small(number: int) -> None:
        assert number < 3

    with pytest.raises(AssertionError) as caught:
        small()
    assert caught.value.__notes__ == ["case: {'number': 3}"]
