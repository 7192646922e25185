"""Interactions, records and their noise; the publishers' formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unlearn_runner.api import compose
from unlearn_runner.data.recommendation.interactions import LastFM, MadeUp, MovieLens
from unlearn_runner.data.recommendation.records import Record, records, split_users
from unlearn_runner.errors import ConfigError, DataError

RATINGS = ((1, 10, 4, 300), (1, 20, 5, 100), (1, 30, 3, 200), (2, 20, 1, 5), (1, 20, 2, 400))
TITLES = {10: "Usual Suspects, The (1995)", 20: "Heat (1995)", 30: "Heat (1986)"}


def write(folder: Path, kind: str) -> Path:
    rows = [tuple(map(str, row)) for row in RATINGS]
    if kind == "latest":
        text = "\r\n".join(["userId,movieId,rating,timestamp", *map(",".join, rows)])
        (folder / "ratings.csv").write_text(text)
        titles = [f'{i},"{title}",Drama' for i, title in TITLES.items()]
        (folder / "movies.csv").write_text("\r\n".join(["movieId,title,genres", *titles]))
    elif kind == "1m":
        (folder / "ratings.dat").write_text("\n".join(map("::".join, rows)))
        titles = [f"{i}::{title}::Drama" for i, title in TITLES.items()]
        (folder / "movies.dat").write_text("\n".join(titles))
    else:
        (folder / "u.data").write_text("\n".join(map("\t".join, rows)))
        titles = [f"{i}|{title}|01-Jan-1995||url" for i, title in TITLES.items()]
        (folder / "u.item").write_text("\n".join(titles))
    return folder


@pytest.mark.parametrize("kind", ["latest", "1m", "100k"])
def test_three_formats_give_the_same(tmp_path: Path, kind: str) -> None:
    found = MovieLens(str(write(tmp_path, kind))).read()
    assert found.users == {1: (20, 30, 10), 2: (20,)}, "in the order of time, each item once"
    assert found.titles == {10: "The Usual Suspects", 20: "Heat (1995)", 30: "Heat (1986)"}
    assert found.popular(1).users == {1: (20,), 2: (20,)}


def test_malformed_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no MovieLens"):
        MovieLens(str(tmp_path)).read()
    write(tmp_path, "latest")
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,ten,4,5\n")
    with pytest.raises(DataError, match=r"ratings\.csv:2 has no whole number in column 2"):
        MovieLens(str(tmp_path)).read()
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,99,4,5\n")
    with pytest.raises(DataError, match="rates item 99"):
        MovieLens(str(tmp_path)).read()
    with pytest.raises(ConfigError, match=r"benchmark\.data_dir must be set"):
        MovieLens().read()


def made(**settings: Any) -> Any:
    data = MadeUp(users=40, **settings).read()
    return data, records(data, tuple(data.users), history=5, candidates=6, each=2, seed=1)


def test_records_are_fixed_by_the_seed() -> None:
    data, found = made()
    assert found == made()[1]
    assert found != made(seed=1)[1]
    other = records(data, tuple(data.users), history=5, candidates=6, each=2, seed=2)
    assert [r.target for r in other] == [r.target for r in found]
    assert [r.candidates for r in other] != [r.candidates for r in found]
    for record in found:
        assert record.target in record.candidates
        assert not set(record.candidates) & set(record.history)
        assert len(set(record.candidates)) == 6
        seen = data.users[record.user]
        end = seen.index(record.target)
        assert seen[max(0, end - 5) : end] == record.history
    assert len(set(data.titles.values())) == len(data.titles)


def test_noise_changes_one_thing() -> None:
    data, found = made()
    for record in found:
        gone = record.corrupted("remove_last", data, 0)
        assert gone == replace(record, history=record.history[:-1])
        swapped = record.corrupted("replace_last", data, 0)
        assert swapped == replace(record, history=(*record.history[:-1], swapped.history[-1]))
        assert swapped.history[-1] not in {*record.history, *record.candidates}
        wrong = record.corrupted("replace_target", data, 0)
        assert wrong == replace(record, target=wrong.target) != record
        assert wrong.target in record.candidates
        assert wrong.row(data).question == record.row(data).question
        assert swapped.row(data).answer == record.row(data).answer


def test_no_user_is_in_two_splits() -> None:
    found = split_users(list(range(50)), {"pretrain": 0.4, "test": 0.1, "train": 0.5}, 3)
    assert sorted(user for users in found.values() for user in users) == list(range(50))
    assert [len(users) for users in found.values()] == [20, 5, 25]


@pytest.mark.parametrize("noise", ["remove_last", "replace_last", "replace_target"])
def test_the_benchmark_pairs_what_was_seen_with_what_should_have_been(noise: str) -> None:
    benchmark = compose("benchmark=pocket_rec", f"benchmark.noise={noise}").benchmark
    splits = benchmark.splits()
    assert splits.corrected is not None
    assert len(splits.forget) == len(splits.corrected) == int(0.05 * len(splits.full))
    assert len(splits.full) == len(splits.forget) + len(splits.retain)
    for old, new in zip(splits.forget, splits.corrected, strict=True):
        assert old in splits.full.items
        assert (old.answer == new.answer) == (noise != "replace_target")
        assert (old.question == new.question) == (noise == "replace_target")
    assert set(splits.wished.items) == {*splits.retain.items, *splits.corrected.items}
    views = benchmark.views()
    assert len(views["test"][1]) == 5 * 60
    questions = {row.question for row in views["test"][1]}
    assert not questions & {row.question for row in splits.full}


def test_candidates_of_pre_training_may_be_drawn_more_than_once() -> None:
    once, thrice = (
        compose("benchmark=pocket_rec", f"benchmark.pretrain_draws={n}").benchmark.splits()
        for n in (1, 3)
    )
    assert len(thrice.pretrain) == 3 * len(once.pretrain)
    assert thrice.pretrain.items[: len(once.pretrain)] == once.pretrain.items
    answers = [row.answer for row in once.pretrain]
    assert [row.answer for row in thrice.pretrain] == 3 * answers
    assert len({row.question for row in thrice.pretrain}) > 2 * len(once.pretrain)
    assert thrice.full == once.full


def test_shares_that_leave_nobody_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave no users to train on"):
        compose("benchmark=pocket_rec", "benchmark.pretrain_share=0.8")


def test_movielens_latest_small(shared: Path) -> None:
    """Rows of the real files, counted by hand: 610 users, of whom the test has a tenth."""
    folder = shared / "data" / "movielens_latest_small"
    options = ("benchmark=movielens", f"benchmark.data_dir={folder}", "benchmark.each=1")
    benchmark: Any = compose(*options).benchmark
    data = benchmark.source.read()
    assert len(data.users) == 610
    assert len(data.titles) == 9742
    assert sum(map(len, data.users.values())) == 100_836
    assert data.titles[50] == "The Usual Suspects"
    assert len(benchmark.splits().full) == 488
    assert len(benchmark.views()["test"][1]) == 5 * 61


def test_last_fm_is_read_as_published(tmp_path: Path) -> None:
    """Artists in the order of the first tagging; names that two have are told apart."""
    tagged = ["userID\tartistID\ttagID\ttimestamp"]
    tagged += ["2\t52\t13\t300", "2\t63\t15\t100", "2\t52\t18\t50", "2\t99\t18\t60", "4\t99\t1\t1"]
    (tmp_path / "user_taggedartists-timestamps.dat").write_text("\n".join(tagged) + "\n")
    artists = [
        "id\tname\turl\tpictureURL",
        "52\tMorcheeba\tu\tp",
        "63\tEnigma\tu\tp",
        "70\tEnigma\tu\tp",
    ]
    (tmp_path / "artists.dat").write_text("\n".join(artists) + "\n")
    found = LastFM(str(tmp_path)).read()
    assert found.titles == {52: "Morcheeba", 63: "Enigma [63]", 70: "Enigma [70]"}
    assert found.users == {2: (52, 63)}
    assert (
        Record(2, (52,), 63, (63, 70), 0)
        .row(found)
        .question.startswith("A listener heard, oldest first: Morcheeba.")
    )
    (tmp_path / "artists.dat").write_text("id\tname\turl\tpictureURL\nx\tA\tu\tp\n")
    with pytest.raises(DataError, match=r"artists\.dat:2 has no whole number"):
        LastFM(str(tmp_path)).read()
    with pytest.raises(ConfigError, match="data_dir"):
        LastFM().read()
