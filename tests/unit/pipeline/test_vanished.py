"""What another process removes from the store during a run is said to be gone, and made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.text_stages import RUNS, Text, execute, text_of

from unlearn_runner.errors import UserError
from unlearn_runner.store.store import Store


def remover(root: Path, stage: Text, times: int) -> Callable[[], None]:
    """Returns what removes a stage's artifact the first few times."""
    left = [None] * times

    def remove() -> None:
        if left:
            left.pop()
            shutil.rmtree(Store(root / "store").path(stage))

    return remove


def test_what_a_stage_was_about_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = Text("base", "a")
    top = Text("top", "b", base, remover(tmp_path, base, 1))
    results = execute(tmp_path, [base, top], [top])
    assert text_of(Store(tmp_path / "store").path(top)) == "ab"
    assert RUNS == ["base", "top", "base", "top"]
    assert [(r.outcome, r.cached) for r in results] == [("completed", False)] * 2
    said = capsys.readouterr().err
    assert f"base (text/{base.key}) has vanished from the store" in said
    assert "it is made again" in said


def test_what_a_run_was_to_leave(tmp_path: Path) -> None:
    kept = Text("kept", "k")
    execute(tmp_path, [kept], [kept])
    last = Text("last", "l", None, remover(tmp_path, kept, 1))
    results = execute(tmp_path, [kept, last], [kept, last])
    assert RUNS == ["last", "kept"]
    assert [r.stage.label for r in results] == ["kept", "last"]
    assert text_of(Store(tmp_path / "store").path(kept)) == "k"


def test_what_is_not_needed_any_more_is_not_made_again(tmp_path: Path) -> None:
    base = Text("base", "a")
    top = Text("top", "b", base)
    last = Text("last", "l", None, remover(tmp_path, base, 1))
    execute(tmp_path, [base, top, last], [top, last])
    assert RUNS == ["base", "top", "last"]
    assert not Store(tmp_path / "store").path(base).exists()


def test_it_is_not_tried_for_ever(tmp_path: Path) -> None:
    base = Text("base", "a")
    top = Text("top", "b", base, remover(tmp_path, base, 99))
    with pytest.raises(UserError, match="has vanished from the store") as caught:
        execute(tmp_path, [base, top], [top])
    assert RUNS == ["base", "top"] * 3
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_failure_with_everything_in_place_is_a_failure(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("no memory")

    base = Text("base", "a")
    top = Text("top", "b", base, fail)
    with pytest.raises(RuntimeError, match="no memory"):
        execute(tmp_path, [base, top], [top])
    assert RUNS == ["base", "top"]
