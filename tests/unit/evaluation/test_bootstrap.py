"""Bootstrap intervals against the exact distribution of small samples and the normal one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from unlearn_runner.evaluation.metrics.bootstrap import intervals
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.evaluation.metrics.forget_quality import ForgetQuality
from unlearn_runner.evaluation.metrics.probability import Probability
from unlearn_runner.evaluation.metrics.rouge import RougeL
from unlearn_runner.evaluation.metrics.truth_ratio import TruthRatio
from unlearn_runner.evaluation.metrics.utility import ModelUtility

ONE = {"probability": Probability()}


def evidence(**views: list[float]) -> Evidence:
    """Views to be kept whose rows have these probabilities."""
    return Evidence(
        {
            name: ViewEvidence(
                name, "keep", "answer", Record({"answer": [[-np.log(p)] for p in rows]})
            )
            for name, rows in views.items()
        }
    )


def test_ends_are_those_of_all_samples_of_three_people() -> None:
    rows = [0.9, 0.8, 0.1, 0.3, 0.5]
    owners = [0, 0, 0, 1, 2]  # of unequal size: a sample's mean is over its rows
    people = [[0.9, 0.8, 0.1], [0.3], [0.5]]
    means = sorted(
        np.mean([p for one in drawn for p in people[one]]) for drawn in product(range(3), repeat=3)
    )
    exact = np.quantile(means, (0.025, 0.975), method="inverted_cdf")
    found = intervals(
        evidence(retain=rows), {"retain": owners}, ONE, {"retain.probability": 0.5}, 20_000
    )
    assert found["retain.probability"] == pytest.approx(tuple(exact), abs=1e-9)


def test_people_widen_what_rows_would_say() -> None:
    """Twenty equal rows about a person are one observation: wider by the root of twenty."""
    random = np.random.default_rng(0)
    of_person = random.uniform(0.3, 0.7, 40)
    rows = np.repeat(of_person, 20).tolist()
    score = {"retain.probability": float(np.mean(rows))}
    by_person = intervals(
        evidence(retain=rows), {"retain": [i // 20 for i in range(800)]}, ONE, score
    )["retain.probability"]
    by_row = intervals(evidence(retain=rows), {"retain": range(800)}, ONE, score)
    low, high = by_row["retain.probability"]
    assert (by_person[1] - by_person[0]) / (high - low) == pytest.approx(20**0.5, rel=0.1)
    # As the normal distribution has it, of forty people.
    half = 1.96 * of_person.std() / 40**0.5
    assert by_person[1] - by_person[0] == pytest.approx(2 * half, rel=0.1)


def test_views_about_the_same_people_draw_the_same_ones() -> None:
    """A utility of two equal views is their score, sample by sample, and so are its ends."""
    rows = [0.2, 0.4, 0.6, 0.9]
    metrics = {**ONE, "model_utility": ModelUtility(("probability",))}
    scores = {"a.probability": 0.525, "b.probability": 0.525, "model_utility": 0.525}
    found = intervals(
        evidence(a=rows, b=rows), {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}, metrics, scores
    )
    assert found["a.probability"] == found["b.probability"]
    assert found["model_utility"] == pytest.approx(found["a.probability"])
    low, high = found["model_utility"]
    assert low < 0.525 < high


def test_what_has_no_rows_and_what_does_not_exist_has_no_interval() -> None:
    texts = Texts(["q", "q"], ["a b", "x"], ["a b", ""])  # nothing to recall in the second
    record = Record({"answer": [[0.1], [0.2]]}, texts=texts)
    model = Evidence({"forget": ViewEvidence("forget", "forget", "answer", record)})
    metrics = {
        **ONE,
        "rouge_l": RougeL(),
        "truth_ratio": TruthRatio(),
        "forget_quality": ForgetQuality(),
        "model_utility": ModelUtility(),
    }
    scores = {
        "forget.probability": float("nan"),
        "forget.rouge_l": 1.0,
        "forget.truth_ratio": None,
        "forget_quality": 0.5,
        "model_utility": None,
    }
    found = intervals(model, {"forget": [0, 1]}, metrics, scores)
    assert found == {"forget.rouge_l": (1.0, 1.0)}


def test_a_log_with_rows_that_are_not_the_views_is_drawn_row_by_row() -> None:
    view = evidence(retain=[0.1, 0.5, 0.9]).views["retain"].keyed((1, -1, -1))
    found = intervals(
        Evidence({"retain": view}), {"retain": [7, 7]}, ONE, {"retain.probability": 0.5}
    )
    low, high = found["retain.probability"]
    assert 0.1 <= low < 0.5 < high <= 0.9
