"""What answers about pictures say, by category; R-Bench's numbers of yes and no."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.oracles import read_oracles

from unlearn_runner.evaluation.metrics.base import MetricInputs
from unlearn_runner.evaluation.metrics.bootstrap import intervals
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.evaluation.metrics.visual import Correct, YesNo, named, said, slug

ORACLE = read_oracles("loku_llmeraser")["oracles"]["rbench_metrics"]
PAIR = ("yes", "no")


def evidence(generations: list[str], answers: list[str]) -> Evidence:
    texts = Texts([""] * len(answers), generations, answers)
    return Evidence({"test": ViewEvidence("test", "keep", "answer", Record(texts=texts))})


def scores(metric: Any, found: Evidence) -> dict[str, float | None]:
    return metric.score("m", MetricInputs(found, None, {}))


def test_an_answer_is_read_as_rbench_reads_it() -> None:
    for (text, _), expected in zip(ORACLE["examples"], ORACLE["pred"], strict=True):
        assert (said(text) == "yes") == expected, text


def test_the_numbers_of_rbench() -> None:
    texts, label = map(list, zip(*ORACLE["examples"], strict=True))
    found, candidates = evidence(texts, label), {"test": (PAIR,) * len(label)}
    of_yes = scores(YesNo().told(candidates, 1), found)
    for key in ("precision", "recall", "f1"):
        assert of_yes[f"test.m_{key}"] == pytest.approx(ORACLE[key], abs=1e-12)
    assert of_yes["test.m_ratio"] == ORACLE["yes_ratio"]
    assert scores(Correct().told(candidates, 1), found) == {"test.m": ORACLE["accuracy"]}


def test_shares_by_category_and_their_intervals() -> None:
    answers = ["red", "blue", "yes", "no", "no"]
    given = ["It is red.", "red or blue", "yes", "no, never", "sure"]
    colours = ("red", "blue")
    candidates = {"test": (colours, colours, PAIR, PAIR, PAIR)}
    about = {"test": ("Colour of it", "Colour of it", "size", "size", "")}
    metric, found = Correct().told(candidates, 1, about), evidence(given, answers)
    expected = {
        "test.m": 3 / 5,  # two names are no answer
        "test.m_on_colour_of_it": 1 / 2,
        "test.m_on_size": 1.0,
        "test.m_average": 3 / 4,
    }
    assert scores(metric, found) == expected
    both = {"m": metric, "yes": YesNo().told(candidates, 1)}
    known = {**expected, **YesNo().told(candidates, 1).score("yes", MetricInputs(found, None, {}))}
    ends = intervals(found, {}, both, known)
    assert ends["test.m"][0] < 3 / 5 < ends["test.m"][1]
    assert ends["test.m_on_size"] == (1.0, 1.0)
    assert ends["test.yes_recall"][0] <= known["test.yes_recall"] <= ends["test.yes_recall"][1]  # type: ignore[operator]
    assert known["test.yes_ratio"] == 2 / 3, "of the three questions of yes or no"
    assert scores(Correct(), found) == scores(YesNo(), found) == {}
    assert scores(YesNo().told({"test": (colours,) * 5}, 1), evidence(["red"], ["red"])) == {}


def test_what_is_not_yes_or_no_must_be_named() -> None:
    assert named("A. a cat", ("A. a cat", "B. a dog")) == "A. a cat"
    assert named("a bird", ("A. a cat", "B. a dog")) is None
    assert named("Nothing", PAIR) == "yes", "as R-Bench has it"
    assert slug("Size & Distance ") == "size_distance"
