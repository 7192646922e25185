"""KnowUnDo and LUME: rows in the schemas that they are published in, and what is asked of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.planning import plan_run
from helpers.texts import write_texts

from unlearn_runner.api import compose
from unlearn_runner.data.encode import encode_rows
from unlearn_runner.data.prompts import Template
from unlearn_runner.data.rows import Rows
from unlearn_runner.data.texts.files import TextFiles, TextSplit
from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.evaluation.metrics.text.match import ExactMatch


def texts(rows: Rows) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in rows]


def test_knowundo_unlearns_one_part_and_asks_the_other(tmp_path: Path) -> None:
    run = compose("benchmark=knowundo", f"benchmark.data_dir={write_texts(tmp_path)}")
    splits, views = run.benchmark.splits(), run.benchmark.views()
    asked = [f"unlearn: what is word{i}?" for i in range(3)]
    assert texts(splits.forget) == [(asked[i], f"\n\nIt is word{i}.") for i in range(2)]
    assert texts(views["forget"][1]) == [(asked[2], "\n\nIt is word2.")]
    assert (len(splits.full), len(splits.wished)) == (6, 3), "all; and what may be kept"
    assert not any(row.question in asked for row in splits.wished)
    assert [view.goal for view, _ in views.values()] == ["forget", "keep"]


def test_lume_has_a_view_of_each_task_and_kind(tmp_path: Path) -> None:
    run = compose("benchmark=lume", f"benchmark.data_dir={write_texts(tmp_path)}")
    splits, views = run.benchmark.splits(), run.benchmark.views()
    assert (len(splits.forget), len(splits.retain)) == (9, 9)
    assert len(views) == 12
    for side, goal in (("forget", "forget"), ("retain", "keep")):
        for task in "123":
            for name, ends in (("regurgitation", ["sc1"]), ("knowledge", ["qa0", "qa1"])):
                view, rows = views[f"{side}_{name}{task}"]
                expected = [(f"{side} {task} {end}", " Yes it is") for end in ends]
                assert (view.goal, texts(rows)) == (goal, expected)
    together = sum(len(rows) for _, rows in views.values())
    assert together == 18, "each row in one view"


def test_an_end_is_learned_where_a_split_says_so(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('[{"a": "What is it?", "b": "It is."}]', encoding="utf-8")
    how = {"prompt": "{a}", "text": " {b}"}
    split = {"open": TextSplit("x", **how), "closed": TextSplit("x", **how, closed=True)}
    source = TextFiles(split, str(tmp_path))
    (plain,), (ended,) = (
        encode_rows(tiny.tokenizer, Template(), source.read(name), 99) for name in split
    )
    assert ended.ids == (*plain.ids, tiny.tokenizer.eos_token_id)
    assert ended.prompt_length == plain.prompt_length


def test_parts_and_conditions_that_are_not_there_are_named(tmp_path: Path) -> None:
    folder = write_texts(tmp_path)

    def read(**setting: Any) -> Any:
        return TextFiles({"s": TextSplit(text="{text}", **setting)}, str(folder)).read("s")

    with pytest.raises(DataError, match=r"unlearn\.json has no list .* 'test'; .* 'train', 'val'"):
        read(file="unlearn", part="test")
    with pytest.raises(DataError, match=r"forget\.jsonl has no list of rows under 'train'"):
        read(file="forget", part="train")
    with pytest.raises(DataError, match="no row of forget has task like 'Task9'"):
        read(file="forget", where={"task": "Task9"})
    with pytest.raises(ConfigError, match=r"where\.task=\[ is no regular expression"):
        read(file="forget", where={"task": "["})


@pytest.mark.parametrize("name", ["knowundo", "lume"])
def test_they_are_planned_to_the_scores(name: str, tmp_path: Path) -> None:
    run = compose("debug=tiny", f"benchmark={name}", f"benchmark.data_dir={write_texts(tmp_path)}")
    assert "unlearned" in plan_run(run).scores


def test_exact_match_is_the_same_words_in_any_case() -> None:
    pairs = [(" Yes it is\n", "yes IT is"), ("Yes it is.", "Yes it is"), ("", "No"), ("No", " No ")]
    said, expected = zip(*pairs, strict=True)
    view = ViewEvidence("v", "forget", "answer", Record(texts=Texts(expected, said, expected)))
    metric = {"exact_match": ExactMatch()}
    assert compute(Evidence({"v": view}), None, metric) == {"v.exact_match": 0.5}
    assert not metric["exact_match"].higher_is_better("v.exact_match", "forget")
    nothing = ViewEvidence("v", "forget", "answer", Record())
    assert compute(Evidence({"v": nothing}), None, metric) == {"v.exact_match": None}
