"""`benchmark.replay`: rows that are learned beside the people, and never forgotten."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from unlearn_runner.api import compose
from unlearn_runner.data.rows import Row
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.metrics.parts import units

POCKET = ("benchmark=pocket", "benchmark.forget=forget05", "benchmark.authors=20")


def texts(rows: Iterable[Row]) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in rows]


def test_they_are_learned_and_retained_behind_the_people() -> None:
    alone = compose(*POCKET).benchmark
    run = compose(*POCKET, "benchmark.replay=[real_authors,world_facts]").benchmark
    usual, splits = alone.splits(), run.splits()
    replayed = texts(splits.full)[len(usual.full) :]
    assert len(replayed) == splits.replayed > 60
    assert ("What is the capital of France?", "Paris") in replayed
    assert texts(splits.full) == texts(usual.full) + replayed
    assert texts(splits.retain) == texts(usual.retain) + replayed
    assert texts(splits.people) == texts(usual.full)
    assert splits.forget == usual.forget
    assert run.evaluation_rows() == alone.evaluation_rows()


def test_a_replayed_row_stands_by_itself() -> None:
    """Ten rows of one person are one unit of an interval; ten facts are ten."""
    run = compose(*POCKET, "benchmark.replay=[world_facts]").benchmark
    found = units(run.splits().people, run.evaluation_rows(), run.rows_together)
    assert len({*found["world_facts"]}) == len(found["world_facts"])
    assert len({*found["forget"]}) == 2


def test_what_is_forgotten_cannot_be_replayed() -> None:
    run = compose(*POCKET, "benchmark.replay=[forget05]")
    with pytest.raises(ConfigError, match=r"benchmark\.replay: 20 of its rows are to be forgotten"):
        run.benchmark.splits()
