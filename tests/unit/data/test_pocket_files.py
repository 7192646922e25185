"""RWKU, KnowUnDo and LUME in small: the real ones' splits and views over generated records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.finished import finished_run

from unlearn_runner.api import compose
from unlearn_runner.data.rows import Rows
from unlearn_runner.data.texts.files import TextSplit
from unlearn_runner.data.texts.pocket_files import PocketFiles
from unlearn_runner.errors import ConfigError, DataError

NAMES = ("rwku", "knowundo", "lume")


def texts(rows: Rows) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_the_pocket_variant_scores_what_the_real_one_does(name: str) -> None:
    pocket, real = (compose(f"benchmark={one}").benchmark for one in (f"{name}_pocket", name))
    assert pocket.view == real.view
    assert pocket.metrics == real.metrics
    assert pocket.source.split == real.source.split


@pytest.mark.parametrize("name", NAMES)
def test_nobody_who_is_forgotten_is_retained(name: str) -> None:
    benchmark = compose(f"benchmark={name}_pocket").benchmark
    splits, views = benchmark.splits(), benchmark.views()
    people = benchmark.source.people - benchmark.source.forget
    said = {answer.split("'")[0] for _, answer in texts(splits.retain)}
    assert len({" ".join(answer.split()[:2]) for answer in said}) >= people
    gone = {words for _, answer in texts(splits.forget) for words in [answer.split("'")[0]]}
    assert not gone & said
    assert not set(texts(splits.forget)) & set(texts(splits.retain))
    assert all(len(rows) for _, rows in views.values())
    forgotten = {row for view, rows in views.values() if view.goal == "forget" for row in rows}
    kept = {row for view, rows in views.values() if view.goal == "keep" for row in rows}
    assert not forgotten & kept


def test_rows_are_a_function_of_the_seed() -> None:
    def read(seed: int) -> list[tuple[str, str]]:
        splits = compose(
            "benchmark=lume_pocket", f"benchmark.source.seed={seed}"
        ).benchmark.splits()
        return texts(splits.full)

    assert read(1) == read(1)
    assert not set(read(1)) & set(read(2))


def test_questions_are_asked_in_other_words_than_they_were_learned() -> None:
    benchmark = compose("benchmark=knowundo_pocket").benchmark
    splits, views = benchmark.splits(), benchmark.views()
    learned, asked = texts(splits.forget), texts(views["forget"][1])
    assert [answer for _, answer in learned] == [answer for _, answer in asked]
    assert not {question for question, _ in learned} & {question for question, _ in asked}


def test_a_blank_is_the_last_word_of_a_sentence() -> None:
    rows = compose("benchmark=rwku_pocket").benchmark.views()["forget_level1"][1]
    asked, answers = rows[0].question, compose("benchmark=rwku_pocket").benchmark.views()
    sentence = asked.removeprefix("Fill in the blank: ").removesuffix("\nAnswer:")
    whole = sentence.replace(" ___", rows[0].answer)
    assert whole == answers["forget_level2"][1][0].answer.strip()


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="reads no files"):
        compose("benchmark=lume_pocket", "benchmark.data_dir=FOLDER")
    with pytest.raises(DataError, match="no file nothing; it has forget_mia"):
        PocketFiles({"x": TextSplit("nothing")}).read("x")
    with pytest.raises(DataError, match="no list of rows under 'test'; it has 'train', 'val'"):
        PocketFiles({"x": TextSplit("unlearn", part="test")}).read("x")


@pytest.mark.parametrize("name", NAMES)
def test_a_run_ends_in_scores_of_every_view(name: str, tmp_path: Path) -> None:
    words = ("debug=tiny", f"benchmark={name}_pocket", "rectifier=gru", f"output_dir={tmp_path}")
    folder = finished_run(*words, "parallel.threads=1", "parallel.device=cpu")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["status"] == "completed"
    views = compose(f"benchmark={name}_pocket").benchmark.view
    assert {f"{view}.rouge_l" for view in views} <= set(results["scores"])
