"""Refusals: the runner's own, TOFU's file, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from unlearn_runner.data.refusals import OWN, read
from unlearn_runner.errors import DataError

KEY = "benchmark.refusals_file"


def test_the_runners_own_are_forty_different_sentences() -> None:
    assert len(OWN) == len(set(OWN)) == 40
    assert all(text.strip() == text and text[0].isupper() and text[-1] == "." for text in OWN)


def test_tofus_hundred_lines(shared: Path) -> None:
    found = read(shared / "data/tofu/idontknow.jsonl", KEY)
    assert len(found) == 100
    assert found[0] == "I'm not certain about that."
    assert not set(found) & set(OWN)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"", "holds no refusal"), (b" \n\n", "holds no"), (b"\xff", "UTF-8")],
)
def test_what_is_no_file_of_refusals(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "refusals.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read(path, KEY)
    assert str(path) in str(caught.value)
    assert f"fix: {KEY}=null" in str(caught.value)


def test_marks_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "refusals.txt"
    path.write_bytes("\ufeffNo.\r\n\r\n  I won't. \n".encode())
    assert read(path, KEY) == ("No.", "I won't.")
