"""BookCrossing's files, questions of yes or no, and what may be wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.books import READERS, write_books

from unlearn_runner.api import compose
from unlearn_runner.data.recommendation.books import BookCrossing
from unlearn_runner.data.recommendation.preferences import Preference, preferences
from unlearn_runner.errors import ConfigError, DataError

BOOKS = """"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication"
"000000000X";"The \\"J. Peterman\\" Way; Volume 1";"Little, Brown &amp; Co";"1999"
"0000000002";"Caf\xe9";"A. B";"2000"
"0000000003";"CAF\xc9";"A. B.";"2001"
"0000000004";"caf\xe9";"a. b";"2002"
"""
RATINGS = """"User-ID";"ISBN";"Book-Rating"
"7";"000000000x";"5"
"7";"0000000002";"6"
"7";"0000000004";"1"
"7";"0000000003";"0"
"8";"9999999999";"9"
"""
TITLES = {0: 'The "J. Peterman" Way; Volume 1 by Little, Brown & Co', 1: "Café by A. B"}
TITLES[2] = "CAFÉ by A. B."


def write(folder: Path, commas: bool = False) -> Path:
    for published, other, text in (
        ("BX-Books.csv", "Books.csv", BOOKS),
        ("BX-Book-Ratings.csv", "Ratings.csv", RATINGS),
    ):
        if commas:
            text = text.replace('";"', '","').replace('\\"', '""')
            (folder / other).write_text(text, encoding="utf-8")
        else:
            (folder / published).write_bytes(text.encode("latin-1"))
    return folder


@pytest.mark.parametrize("commas", [False, True])
def test_both_spellings_give_the_same(tmp_path: Path, commas: bool) -> None:
    found = BookCrossing(str(write(tmp_path, commas))).read()
    assert found.titles == TITLES, "one book of two editions, as the first spells it"
    assert found.users == {7: (0, 1)}, "what is rated 0, or is no listed book, is left out"
    assert found.liked == {7: {1}}, "above 5; the first of two ratings counts"
    read = BookCrossing(str(tmp_path), implicit=True).read()
    assert read.users == {7: (0, 1, 2)}
    assert read.liked == {7: {1}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("BX-Books.csv", '"ISBN";"Title"\n"1";"A"\n', "no column 'Book-Title' in its first line"),
        ("BX-Books.csv", "", "no column 'ISBN'"),
        ("BX-Book-Ratings.csv", '"User-ID";"ISBN";"Book-Rating"\n"7"\n', r"csv:2 has too few"),
        ("BX-Book-Ratings.csv", "User-ID;ISBN;Book-Rating\n7;1;11\n", "csv:2 .* '11'; allowed"),
        ("BX-Book-Ratings.csv", "User-ID;ISBN;Book-Rating\nx;1;1\n", "user 'x'"),
        ("BX-Book-Ratings.csv", 'User-ID;ISBN;Book-Rating\n"7' + "a" * 200_000, "is no CSV"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (write(tmp_path) / name).write_text(text)
    with pytest.raises(DataError, match=message):
        BookCrossing(str(tmp_path)).read()


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no BookCrossing"):
        BookCrossing(str(tmp_path)).read()
    write(tmp_path)
    (tmp_path / "BX-Books.csv").unlink()
    with pytest.raises(DataError, match=r"BX-Books\.csv cannot be read"):
        BookCrossing(str(tmp_path)).read()
    with pytest.raises(ConfigError, match=r"benchmark\.data_dir must be set"):
        BookCrossing().read()


def test_a_record_asks_for_yes_or_no(tmp_path: Path) -> None:
    data = BookCrossing(str(write(tmp_path))).read()
    record = Preference(7, ((1, True), (2, False)), 0, False)
    row = record.row(data)
    assert row.question == (
        "Liked: Café by A. B. Disliked: CAFÉ by A. B.. Will this reader like "
        'The "J. Peterman" Way; Volume 1 by Little, Brown & Co? Answer Yes or No.'
    )
    assert (row.answer, row.perturbed_answers) == ("No", ("Yes",))
    assert "Disliked: nothing." in replace(record, history=((1, True),)).row(data).question


def test_noise_changes_one_thing(tmp_path: Path) -> None:
    data = BookCrossing(str(write_books(tmp_path))).read()
    found = preferences(data, tuple(data.users), history=5, each=2, seed=1)
    assert len(found) == 2 * READERS
    for record in found:
        assert record.item not in dict(record.history)
        assert len(record.history) == 5
        flipped = record.corrupted("replace_target", data, 0)
        assert flipped == replace(record, likes=not record.likes)
        gone = record.corrupted("remove_last", data, 0)
        assert gone == replace(record, history=record.history[:-1])
        other = record.corrupted("replace_last", data, 0)
        (book, liked) = other.history[-1]
        assert other == replace(record, history=(*record.history[:-1], (book, liked)))
        assert liked == record.history[-1][1]
        assert book not in {record.item, *dict(record.history)}
    again = preferences(data, tuple(data.users), history=5, each=2, seed=1)
    assert found == again
    assert found != preferences(data, tuple(data.users), history=5, each=2, seed=2)


@pytest.mark.parametrize("noise", ["replace_target", "remove_last", "null"])
def test_the_benchmark_says_what_is_to_become_of_its_rows(tmp_path: Path, noise: str) -> None:
    benchmark: Any = compose(
        "benchmark=bookcrossing",
        f"benchmark.data_dir={write_books(tmp_path)}",
        f"benchmark.noise={noise}",
        "benchmark.noise_share=0.1",
        "benchmark.most_users=50",
    ).benchmark
    splits, views = benchmark.splits(), benchmark.views()
    assert len(splits.full) == 40
    assert len(views["test"][1]) == 5
    assert len(splits.forget) == 4
    assert len(splits.retain) == 36
    if noise == "null":
        assert splits.corrected is None
        assert "corrected" not in views
        assert splits.wished == splits.retain
    else:
        assert splits.corrected is not None
        for old, new in zip(splits.forget, splits.corrected, strict=True):
            assert (old.question == new.question) == (noise == "replace_target")
            assert (old.answer == new.answer) == (noise != "replace_target")
        assert set(splits.wished) == {*splits.retain, *splits.corrected}
    assert {row.answer for row in splits.full} == {"Yes", "No"}
