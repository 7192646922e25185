"""`benchmark.authors`: some people of a benchmark alone, the same ones in every split and view."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers.tofu import write_tofu

from unlearn_runner.api import compose
from unlearn_runner.config.root import Run
from unlearn_runner.data.rows import QA
from unlearn_runner.errors import ConfigError

POCKET = ("benchmark=pocket", "benchmark.forget=forget05")


def texts(rows: Iterable[QA]) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in rows]


def people(run: Run, rows: Iterable[QA]) -> set[int]:
    """Which of all people rows are about, in the order of `full`."""
    place = {text: i // 10 for i, text in enumerate(texts(run.benchmark.splits().full))}
    return {place[text] for text in texts(rows)}


def test_the_forgotten_people_and_the_first_of_the_others() -> None:
    whole, run = compose(*POCKET), compose(*POCKET, "benchmark.authors=20")
    splits = run.benchmark.splits()
    assert people(whole, splits.forget) == {38, 39}
    assert people(whole, splits.retain) == {*range(18)}
    assert people(whole, splits.full) == {*range(18), 38, 39}
    assert len(splits.full) == 200
    assert texts(splits.full) == texts([*splits.retain, *splits.forget])
    assert texts(splits.pretrain) == texts(whole.benchmark.splits().pretrain)


def test_only_people_who_were_learned_are_evaluated() -> None:
    """The pocket's retain view is of eight people, of whom four are kept here beside two."""
    whole, run = compose(*POCKET), compose(*POCKET, "benchmark.authors=6")
    views = {name: rows for name, (_, rows) in run.benchmark.evaluation_rows().items()}
    usual = {name: rows for name, (_, rows) in whole.benchmark.evaluation_rows().items()}
    assert people(whole, usual["retain"]) == {*range(8)}
    assert people(whole, views["retain"]) == {*range(4)}
    assert all(row.perturbed_answers for row in views["retain"])
    for name in ("forget", "real_authors", "world_facts"):
        assert views[name] == usual[name]


def test_a_view_s_limit_counts_rows_that_are_kept() -> None:
    rows = compose(*POCKET, "benchmark.authors=3", "benchmark.view.retain.limit=15")
    _, retain = rows.benchmark.evaluation_rows()["retain"]
    assert len(retain) == 10  # one person's


def test_all_people_are_the_whole_benchmark() -> None:
    whole, run = compose(*POCKET), compose(*POCKET, "benchmark.authors=40")
    assert run.benchmark.splits() == whole.benchmark.splits()
    assert run.benchmark.evaluation_rows() == whole.benchmark.evaluation_rows()


def test_tofu_s_last_and_first_authors(tmp_path: Path) -> None:
    data = f"benchmark.data_dir={write_tofu(tmp_path)}"
    run = compose("benchmark=tofu", data, "benchmark.forget=forget01", "benchmark.authors=20")
    splits = run.benchmark.splits()
    assert [len(s) for s in (splits.full, splits.forget, splits.retain)] == [400, 40, 360]
    kept = {*texts(splits.retain)}
    _, retain = run.benchmark.evaluation_rows()["retain"]
    assert {*texts(retain)} <= kept


@pytest.mark.parametrize(("authors", "fix"), [("2", "3"), ("41", "40")])
def test_a_number_that_cannot_be_is_refused(authors: str, fix: str) -> None:
    run = compose(*POCKET, f"benchmark.authors={authors}")
    with pytest.raises(ConfigError, match="allowed: 3 to 40") as caught:
        run.benchmark.splits()
    assert caught.value.fix == f"benchmark.authors={fix}"


def test_rows_that_stand_by_themselves_have_no_authors() -> None:
    run = compose(*POCKET, "benchmark.authors=20", "benchmark.rows_per_person=null")
    with pytest.raises(ConfigError, match="does not say which rows are one person's"):
        run.benchmark.splits()
