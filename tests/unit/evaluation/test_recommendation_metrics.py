"""Hits, intervals, areas under curves: oracles of LLaRA's and TALLRec's decisions."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from helpers.oracles import read_oracles

from unlearn_runner.evaluation.metrics.base import MetricInputs
from unlearn_runner.evaluation.metrics.bootstrap import intervals
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.evaluation.metrics.recommendation import (
    AUC,
    Agreement,
    Hits,
    Ranked,
    chosen,
    wilson,
    yes_score,
)

ORACLES = read_oracles("loku_llmeraser")["oracles"]


def inputs(record: Record, retain: Record | None = None) -> MetricInputs:
    def evidence(one: Record) -> Evidence:
        return Evidence({"test": ViewEvidence("test", "keep", "answer", one)})

    return MetricInputs(evidence(record), evidence(retain) if retain else None, {})


def test_hits_of_the_worked_example() -> None:
    oracle = ORACLES["rec_metrics"]
    rows = oracle["examples"]
    answers = [row["real"] for row in rows]
    texts = Texts([""] * len(rows), [row["gen"] for row in rows], answers)
    candidates = {"test": tuple(tuple(row["cans"]) for row in rows)}
    found = Hits().told(candidates, 1).score("hits", inputs(Record(texts=texts)))
    assert found["test.hits"] == pytest.approx(oracle["metric"])
    assert found["test.hits_valid"] == pytest.approx(oracle["ValidRatio"])
    assert found["test.hits_at_1"] == pytest.approx(oracle["HitRatio1"])
    low, high = found["test.hits_low"], found["test.hits_high"]
    assert (low, high) == pytest.approx((0.1176, 0.7693), abs=1e-4)  # 2 of 5
    wide = Hits().told(candidates, 5).score("hits", inputs(Record(texts=texts)))
    assert wide["test.hits_high"] > 0.9  # type: ignore[operator]  # five draws of one record
    assert Hits().score("hits", inputs(Record(texts=texts))) == {}


def test_a_title_within_another_makes_an_answer_invalid() -> None:
    assert chosen("Heat\nFargo", ["Heat", "Fargo"]) == "Heat"
    assert chosen("It Happened One Night", ["It Happened One Night", "It"]) is None
    assert chosen("nothing", ["Heat"]) is None
    assert chosen("", ["Heat"]) is None
    assert chosen("Yes, I know", ["Yes", "No"]) is None
    assert chosen("Yes, I know", ["Yes", "No"], words=True) == "Yes"


def test_published_fractions_have_wide_intervals() -> None:
    """The published gap between an edited and a retrained model is one test user."""
    fractions = ORACLES["rec_headline_fractions"]["fractions"]
    hits, valid, share = fractions["0.4565"]
    assert share == pytest.approx(hits / valid)
    low, high = wilson(hits, valid)
    assert low < fractions["0.2717"][2] + 0.09 < fractions["0.4456"][2] < high
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_yes_scores_and_their_area() -> None:
    for case in ORACLES["tallrec_double_softmax"]["cases"]:
        assert yes_score(case["p_yes"], case["p_no"]) == pytest.approx(case["renorm"])
        assert yes_score(case["p_yes"], case["p_no"], True) == pytest.approx(case["double"])
    # Of yes 0.9 and 0.4 where it is right, 0.5 and 0.4 where it is not: right, right, wrong, a tie.
    answers, yes = ["Yes.", "yes", "No", "no."], [0.9, 0.4, 0.5, 0.4]
    right = [p if answer[0] in "Yy" else 1 - p for answer, p in zip(answers, yes, strict=True)]
    found = record(answers, [-math.log(p) for p in right], [[-math.log(1 - p)] for p in right])
    expected = {"test.auc": pytest.approx(2.5 / 4)}
    assert AUC().score("auc", inputs(found)) == expected
    more = record(
        [*answers, "red", "Yes"],
        [*(-math.log(p) for p in right), 9.0, 9.0],
        [*([-math.log(1 - p)] for p in right), [0.1], [0.1, 0.2]],
    )
    assert AUC().score("auc", inputs(more)) == expected, "other questions do not count"


def test_an_area_has_an_interval() -> None:
    """Of 400 rows whose scores are normal, one apart: the area is P(z < 1 / sqrt 2) = 0.7602."""
    rng = random.Random(0)
    sides = [i % 2 == 0 for i in range(400)]
    yes = [1 / (1 + math.exp(-rng.gauss(float(side), 1))) for side in sides]
    right = [p if side else 1 - p for p, side in zip(yes, sides, strict=True)]
    answers = ["Yes" if side else "No" for side in sides]
    found = record(answers, [-math.log(p) for p in right], [[-math.log(1 - p)] for p in right])
    model, known = inputs(found).model, AUC().score("auc", inputs(found))
    low, high = intervals(model, {}, {"auc": AUC()}, known)["test.auc"]
    assert low < 0.7602 < high
    # Hanley and McNeil's standard error at this area and 200 a side is 0.0239.
    assert (high - low) / 2 == pytest.approx(1.96 * 0.0239, rel=0.15)


def record(answers: list[str], right: list[float], other: list[list[float]]) -> Record:
    losses: Any = {"answer": [[x] for x in right], "perturbed": other}
    return Record(losses, texts=Texts([""] * len(answers), answers, answers))


def test_areas_ranks_and_agreement_of_evidence() -> None:
    binary = record(["Yes", "No", "No"], [0.1, 0.2, 3.0], [[2.0], [1.0], [0.05]])
    assert AUC().score("auc", inputs(binary)) == {"test.auc": pytest.approx(0.5)}
    assert AUC(double_softmax=True).score("auc", inputs(binary)) == {"test.auc": 0.5}
    mine = record(["a", "b", "c"], [1.0, 2.0, 3.0], [[2.0, 3.0], [1.0, 0.5], [4.0, 2.0]])
    theirs = record(["a", "b", "c"], [1.0, 0.1, 3.0], [[2.0, 3.0], [1.0, 0.5], [4.0, 2.0]])
    assert Ranked().score("ranked", inputs(mine)) == {"test.ranked": pytest.approx(1 / 3)}
    found = Agreement().score("agreement", inputs(mine, theirs))
    assert found == {"test.agreement": pytest.approx(2 / 3)}
    assert AUC().score("auc", inputs(mine)) == {}, "no questions of yes or no"
