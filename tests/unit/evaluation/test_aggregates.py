"""Aggregate scores: worked by hand, and what the published anchors come to on the logs at hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from unlearn_runner.evaluation.logs.read import open_log
from unlearn_runner.evaluation.metrics.aggregates import (
    ATTACKS,
    MEMORISED,
    Aggregation,
    Closeness,
    closeness,
)
from unlearn_runner.evaluation.metrics.base import compute

OU = "data/tofu_eval_logs/open_unlearning/tofu_Llama-3.2-1B-Instruct_{}.TOFU_EVAL.min.json"


def scores(memorised: float, auc: float, utility: float, fluency: float = 4.0) -> dict[str, Any]:
    found = dict.fromkeys(MEMORISED, memorised) | dict.fromkeys(ATTACKS, auc)
    return found | {"model_utility": utility, "forget.fluency": fluency}


def test_worked() -> None:
    model, tuned, retain = scores(0.2, 0.7, 0.3), scores(0.8, 1.0, 0.6), scores(0.1, 0.5, 0.6)
    found = Aggregation("finetuned", "relative").all(model, tuned, retain)
    assert found["memorisation"] == pytest.approx(0.75)
    assert found["privacy"] == pytest.approx(1 - 0.2 / 0.5)
    assert found["utility"] == pytest.approx(2 / (1 / 0.5 + 1))
    both = (0.75, 2 / 3)
    assert found["overall"] == pytest.approx(3 / (1 / 0.6 + sum(1 / x for x in both)))
    assert found["overall_without_privacy"] == pytest.approx(2 / sum(1 / x for x in both))
    assert Aggregation("none").memorisation(model, {}) == pytest.approx(0.8)


@pytest.mark.parametrize("variant", ["relative", "inverse", "exponential"])
def test_closeness_is_1_at_the_retain_model_s_auc_and_falls_on_both_sides(
    variant: Closeness,
) -> None:
    values = [closeness(auc, 0.4, variant) for auc in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert values[2] == 1
    assert values[0] < values[1] < 1
    assert values[2:] == sorted(values[2:], reverse=True)
    assert all(0 <= value <= 1 for value in values)
    assert closeness(0.5, 1.0, "inverse") == closeness(0.5, 0.0, "relative") == 0
    assert closeness(1.0, 1.0, "inverse") == 1


def test_clamping_and_what_is_missing() -> None:
    model, tuned = scores(0.9, 0.5, 0.9, 8.0), scores(0.8, 1.0, 0.6)
    assert Aggregation().utility(model, tuned) == 1
    assert Aggregation(clamp=False).utility(model, tuned) == pytest.approx(2 / (1 / 1.5 + 1 / 2))
    assert Aggregation().memorisation(model, tuned) == 0  # memorises more than the fine-tuned
    assert Aggregation(clamp=False).memorisation(model, tuned) == 0
    for name in (MEMORISED[0], "model_utility", "forget.fluency"):
        lacking = {key: value for key, value in model.items() if key != name}
        assert Aggregation().all(lacking, tuned, tuned)["overall"] is None
    nan = Aggregation().memorisation(model, scores(0.0, 1.0, 0.6))
    assert nan is not None
    assert math.isnan(nan)  # nothing was memorised that could be forgotten


@pytest.fixture(scope="module")
def logs(shared: Path) -> dict[str, dict[str, float | None]]:
    found = {}
    for name in ("full.forget10", "retain90"):
        log = open_log(shared / OU.format(name))
        metrics = log.metrics("geometric") | log.further()
        unused = ("rouge_1", "rouge_l_f1", "token_entropy")
        metrics = {key: metric for key, metric in metrics.items() if key not in unused}
        found[name] = compute(log.evidence(), None, metrics)
    return found


def test_reference_values_of_the_official_logs(logs: dict[str, Any]) -> None:
    """Section 3.8 of the notes on peers, to its printed digits."""
    printed = {
        "full.forget10": (0.70627, 0.97394, 0.59915, 0.10042, 0.47556, 0.68498),
        "retain90": (0.05896, 0.58489, 0.59112, 0.05341, 0.62746),
    }
    names = (
        "forget.extraction_strength_published",
        "forget.exact_memorisation",
        "model_utility",
        "forget.paraphrase_probability",
        "forget.truth_ratio_closer_to_1",
        "forget.truth_ratio_prob_mean",
    )
    for log, values in printed.items():
        for name, value in zip(names, values, strict=False):
            assert round(logs[log][name], 5) == value, (log, name)
    aucs = {"full.forget10": (0.9965, 0.9979, 0.9967, 0.9980)}
    aucs["retain90"] = (0.38736, 0.30889, 0.38261, 0.47763)
    for log, values in aucs.items():
        for name, value in zip(ATTACKS, values, strict=True):
            assert logs[log][name] == pytest.approx(value, abs=5.1e-5 if value > 0.9 else 5.1e-6)


def test_anchors_of_the_paper(logs: dict[str, Any]) -> None:
    """Printed: fine-tuned 0.00 / 0.10 / 1.00 / 0.00, retain 0.31 / 1.00 / 0.99 / 0.58.

    Reproduced: all of the fine-tuned model by `inverse` with memorisation as a share of the
    fine-tuned model's, and the retain model's privacy and utility by every variant. Not its
    memorisation: 0.35 so normalised (as another fork finds) and 0.58 as it is, and overall with it.
    """
    tuned, retain = logs["full.forget10"], logs["retain90"]

    def rounded(how: Aggregation, model: dict[str, Any]) -> list[float]:
        found = how.all(model, tuned, retain)
        return [round(found[n] or 0, 2) for n in ("memorisation", "privacy", "utility", "overall")]

    inverse = Aggregation("finetuned", "inverse")
    assert rounded(inverse, tuned) == [0.0, 0.10, 1.0, 0.0]
    assert rounded(inverse, retain) == [0.35, 1.0, 0.99, 0.61]
    assert inverse.memorisation(retain, tuned) == pytest.approx(0.346, abs=5e-4)
    assert rounded(Aggregation("none", "relative"), tuned) == [0.09, 0.0, 1.0, 0.0]
    assert rounded(Aggregation("none", "relative"), retain) == [0.58, 1.0, 0.99, 0.81]
    assert rounded(Aggregation("none", "exponential"), tuned) == [0.09, 0.09, 1.0, 0.13]
