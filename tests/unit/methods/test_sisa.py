"""SISA's shards: what each holds, and what is trained for one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.benchmarks.base import Splits
from unlearn_runner.methods.sisa import SISA

TINY = ("debug=tiny", "method=sisa", "target.adapter=lora", "method.shards=2")


def rows(text: str) -> Rows:
    return Rows(text, tuple(QA(f"q{letter.lower()}", letter) for letter in text))


def test_every_row_is_in_one_shard_that_the_request_does_not_choose() -> None:
    shards = [SISA(shards=3, shard=i).places(10, seed=1) for i in range(3)]
    assert sorted(place for shard in shards for place in shard) == list(range(10))
    assert sorted(map(len, shards)) == [3, 3, 4]
    assert shards != [SISA(shards=3, shard=i).places(10, seed=2) for i in range(3)]
    with pytest.raises(ConfigError, match=r"there are method\.shards=3"):
        SISA(shards=3, shard=3)


def test_rows_are_as_wished_where_they_were() -> None:
    """A row that the request does not ask for stays where it is, twice if it is there twice."""
    full, forget, retain = rows("aBcBd"), rows("BB"), rows("acd")
    corrected = Splits(full, forget, retain, rows(""), rows("xy"))
    assert [row and row.answer for row in corrected.wished_in_place] == ["a", "x", "c", "y", "d"]
    removed = Splits(full, forget, retain, rows(""))
    assert [row and row.answer for row in removed.wished_in_place] == ["a", None, "c", None, "d"]
    twice = Splits(rows("aa"), rows("a"), rows("a"), rows(""))
    assert [row and row.answer for row in twice.wished_in_place] == [None, "a"]
    beside = Splits(full, forget, rows("ac"), rows(""), further=rows("d"))
    assert [row and row.answer for row in beside.wished_in_place] == ["a", None, "c", None, "d"]
    in_turn = Splits(full, rows("d"), rows("ac"), rows(""))
    assert [row and row.answer for row in in_turn.wished_in_place] == ["a", None, "c", None, None]


@pytest.mark.parametrize(
    ("benchmark", "rehearse"),
    [("pocket", "true"), ("pocket_rec", "false"), ("pocket_vqa model=tiny_llava", "false")],
)
def test_the_shards_together_are_what_a_retraining_reads(benchmark: str, rehearse: str) -> None:
    """Of pictures too, where many rows have one question and one answer."""
    more = (*f"benchmark={benchmark}".split(), f"model.rehearse={rehearse}")
    plans = [plan_run(compose(*TINY, *more, f"method.shard={i}")) for i in range(2)]
    stages: list[Any] = [found.unlearn for found in plans]
    target: Any = next(s for s in plans[0].stages if s.label == "target adapter")
    retrained: Any = next(s for s in plans[0].stages if s.label == "retain_model adapter")
    for stage in stages:
        assert (stage.base, stage.recipe, stage.adapter) == (
            target.base,
            target.recipe,
            target.adapter,
        )
    pretrain = plans[0].inputs.rowsets.splits.pretrain.items if rehearse == "true" else ()
    dealt = Counter(r.identity for s in stages for r in s.rows)
    wished = Counter(r.identity for r in (*retrained.rows, *pretrain))
    assert dealt == wished
    assert len({stage.key for stage in stages}) == 2


def test_what_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from unlearn_runner.pipeline.inputs import read_inputs
    from unlearn_runner.pipeline.plan import plan
    from unlearn_runner.pipeline.stages.local import Local

    found = compose(*TINY)
    given = replace(read_inputs(found), target=Local("target", tmp_path, "0" * 16))
    with pytest.raises(ConfigError, match="trained elsewhere"):
        plan(found, given)
    with pytest.raises(ConfigError, match="none of its rows is left") as refused:
        plan_run(compose(*TINY, "method.shards=1000", "method.shard=999"))
    assert refused.value.fix == "method.shards=2"
