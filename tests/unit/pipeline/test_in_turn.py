"""Requests one after another: whose rows each forgets, from which model, and what is left."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers.planning import plan_run

from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import validate
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.benchmarks.base import Benchmark
from unlearn_runner.pipeline.plan import Plan

FOUR = ("forget01_a", "forget01_b", "forget01_c", "forget01_d")
IN_TURN = f"benchmark.in_turn=[{','.join(FOUR)}]"


def planned(words: str) -> Plan:
    return plan_run(validate(compose(shlex.split(words)).config))


def texts(rows: Iterable[object]) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in rows]  # type: ignore[attr-defined]


def check_the_union(data: Path) -> None:
    """Four requests of two authors each are, together, one request for the last eight authors."""
    tofu = f"benchmark=tofu benchmark.data_dir={shlex.quote(str(data))} model=scratch"
    run = validate(compose(shlex.split(f"{tofu} {IN_TURN}")).config)
    benchmark: Benchmark = run.benchmark
    splits, turns = benchmark.splits(), benchmark.turns()
    full = texts(splits.full)
    assert [turn.request for turn in turns] == list(FOUR)
    asked: list[tuple[str, str]] = []
    for number, turn in enumerate(turns):
        first = 4000 - 40 * (number + 1)
        assert texts(turn.splits.forget) == full[first : first + 40], "two authors, the last first"
        asked += texts(turn.splits.forget)
        assert texts(turn.splits.retain) == full[:first], "what nobody has asked for yet"
    assert len(set(asked)) == 160
    assert texts(splits.forget) == asked, "in the order of asking"
    assert texts(splits.retain) == full[:3840]
    view, rows = benchmark.evaluation_rows()["forget"]
    assert view.goal == "forget"
    assert texts(rows) == asked
    assert all(row.perturbed_answers for row in rows)


def test_tofu_s_forget01_four_times_is_the_union(tofu_files: Path) -> None:
    check_the_union(tofu_files)


def test_so_it_is_of_tofu_s_own_files(shared: Path) -> None:
    check_the_union(shared / "data" / "tofu")


def test_each_request_starts_from_the_model_that_the_last_one_left(tofu_files: Path) -> None:
    tofu = f"benchmark=tofu benchmark.data_dir={shlex.quote(str(tofu_files))} model=scratch"
    found, alone = planned(f"{tofu} {IN_TURN}"), planned(f"{tofu} benchmark.forget=forget01")
    stages = {stage.label: stage for stage in found.stages}
    chain = [*(f"unlearn {name}" for name in FOUR[:3]), "unlearn"]
    before = ["target", *chain[:3]]
    assert [stages[name].inputs[0] for name in chain] == [stages[name] for name in before]
    assert stages[chain[0]].key == alone.unlearn.key, "the first is forget01 by itself"
    assert found.unlearn is stages["unlearn"]
    assert found.turns is not None
    evaluated = [stage.inputs[0] for stage in found.turns.inputs]
    assert evaluated == [stages[name] for name in chain]


def test_whoever_is_asked_for_is_written_down(tofu_files: Path) -> None:
    tofu = f"benchmark=tofu benchmark.data_dir={shlex.quote(str(tofu_files))} model=scratch"
    stage = planned(f"{tofu} {IN_TURN}").turns
    people = {name: (198 - 2 * i, 199 - 2 * i) for i, name in enumerate(FOUR)}
    rows = {name: {"forget": tuple(range(40 * i, 40 * i + 40))} for i, name in enumerate(FOUR)}
    assert stage is not None
    assert vars(stage)["people"] == people
    assert vars(stage)["requests"] == rows


def test_an_adapter_is_merged_before_the_next_request() -> None:
    found = planned("benchmark.in_turn=[one_a,one_b] adapter=lora method=ga")
    stages = {stage.label: stage for stage in found.stages}
    merged = stages["one_a merged"]
    assert merged.inputs == (stages["target"], stages["unlearn one_a"])
    assert stages["unlearn"].inputs[0] == merged
    assert merged in found.wanted, "the last adapter belongs to it"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("benchmark.in_turn=[one_a,one_a]", "the same request twice"),
        ("benchmark.in_turn=[one_a,forget10]", "two of these requests share rows"),
        ("benchmark.in_turn=[one_e]", r"in_turn=one_e is not .*one_d\nfix: benchmark.in_turn=\["),
        ("benchmark.requests.one_a.people=[3] benchmark.forget=one_a", "no rows of 3"),
        (
            "benchmark.in_turn=[one_a,one_b] evaluate.every=1epoch "
            "'train.stop={metric: forget.probability, below: 0.1}'",
            "fix: train.stop=null",
        ),
        (
            "benchmark.in_turn=[one_a,one_b] method=influence rectifier=none",
            "trained elsewhere|needs",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(words: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        planned(words)


def test_one_request_is_what_it_was() -> None:
    assert planned("").turns is None
    one = planned("benchmark.in_turn=[forget10]")
    assert one.turns is None
    assert one.unlearn.key == planned("").unlearn.key
    assert Rows("a", ()).digest == Rows("b", ()).digest, "names are in no key"
