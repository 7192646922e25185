"""CLEAR's rows: captions of pictures among TOFU's questions, as forget, retain and view rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.pictures import write_clear

from unlearn_runner.api import compose
from unlearn_runner.data.images.clear import Clear
from unlearn_runner.data.rows import VisualQA
from unlearn_runner.errors import DataError


def test_rows_with_and_without_a_picture(tmp_path: Path) -> None:
    rows = Clear(str(write_clear(tmp_path)), question="Who?").read("forget01+tofu")
    assert [row.question for row in rows] == ["Who?", "Who?", "Where was Person 9 born?"]
    assert [row.picture is not None for row in rows] == [True, True, False]
    assert rows[1].answer == "Person 9 stands before wall 1."
    assert rows[2].answer == "In town 9."
    view = Clear(str(tmp_path)).read("forget01_perturbed")[0]
    assert isinstance(view, VisualQA)
    assert view.identity[1:] == Clear(str(tmp_path)).read("forget01+tofu")[0].identity[1:]
    assert view.paraphrased_answer == "There is Person 9 stands before wall 0."
    assert len(view.perturbed_answers) == 2


def test_the_benchmark_parts_what_was_learned(tmp_path: Path) -> None:
    benchmark: Any = compose(
        "benchmark=clear",
        f"benchmark.data_dir={write_clear(tmp_path)}",
        "model=tiny_llava",
        "benchmark.forget=forget10",
    ).benchmark
    assert benchmark.sees
    splits, views = benchmark.splits(), benchmark.views()
    assert (len(splits.full), len(splits.forget), len(splits.retain)) == (30, 6, 24)
    assert {name: len(rows) for name, (_, rows) in views.items()} == {"forget": 4, "retain": 8}
    assert all(row.picture is not None for _, rows in views.values() for row in rows)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image": "0_0.png", "name": "A"}, "full.jsonl:1 has no 'answer'"),
        ({"image": "../x.png", "caption": "A"}, "cannot be read|lies outside"),
        ({"image": 3, "caption": "A"}, "no path within"),
        ({"caption": "A"}, "has no 'question'"),
        ([], "not a JSON object"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, record: Any, message: str) -> None:
    write_clear(tmp_path)
    (tmp_path / "full.jsonl").write_text(json.dumps(record) + "\n")
    if record == []:
        (tmp_path / "full.jsonl").write_text('"text"\n')
    with pytest.raises(DataError, match=message):
        Clear(str(tmp_path)).read("full")
