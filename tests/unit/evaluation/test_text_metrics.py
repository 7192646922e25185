"""Entropy, fluency, every truth ratio and kind of ROUGE, and directions: worked by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from rouge_score import rouge_scorer

from unlearn_runner.evaluation.logs.read import open_log
from unlearn_runner.evaluation.logs.write import write
from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import compute, directions
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.evaluation.metrics.rouge import KINDS, rouge
from unlearn_runner.evaluation.metrics.text.entropy import token_entropy
from unlearn_runner.evaluation.metrics.text.fluency import ngram_entropy
from unlearn_runner.evaluation.schema import View


def test_token_entropy() -> None:
    assert token_entropy("one two three four") == pytest.approx(1)
    assert token_entropy("go go stop stop") == pytest.approx(0.5)  # 1 bit of log2(4)
    assert token_entropy("the the the") == 0
    assert [token_entropy(text) for text in ("", "word")] == [0, 1]


def test_fluency_is_the_weighted_entropy_of_pairs_and_triples() -> None:
    """a b a b a: pairs ab ab ba ba, triples aba aba bab."""
    pairs, triples = 1.0, math.log2(3) - 2 / 3
    expected = (2 / 3 * pairs + 4 / 3 * triples) / 2
    assert ngram_entropy("a b a b a") == pytest.approx(expected)
    assert ngram_entropy("la la la la la la") == ngram_entropy("la") == ngram_entropy("") == 0


def test_rouge_of_every_kind_is_that_of_the_package() -> None:
    answers = ["The river rises in the old hills", "A poem of nine lines"]
    generations = ["Old rivers rise in hills", "Nine poems"]
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    found = rouge(generations, answers)
    assert tuple(found) == KINDS
    for i, pair in enumerate(zip(answers, generations, strict=True)):
        score = scorer.score(*pair)
        expected = (score["rougeL"].recall, score["rougeL"].fmeasure, score["rouge1"].recall)
        assert [found[kind][i] for kind in KINDS] == pytest.approx(expected)


def _view(goal: str) -> ViewEvidence:
    """Right answers of 0.4 and 0.1, wrong ones of 0.1 and 0.2 (geometric means)."""
    losses = {
        "answer": [[0.1], [0.2]],
        "paraphrased": [[-math.log(0.4)], [-math.log(0.1)]],
        "perturbed": [[-math.log(0.05), -math.log(0.2)], [-math.log(0.2)] * 2],
    }
    texts = Texts(["q", "q"], ["a b", "c"], ["a b", "d"])
    return ViewEvidence(goal, goal, "answer", Record(losses, texts=texts))  # type: ignore[arg-type]


def test_truth_ratios_by_name() -> None:
    model = Evidence({goal: _view(goal) for goal in ("forget", "keep")})
    found = compute(model, None, suites.tofu(0.0) | suites.further())
    for goal in ("forget", "keep"):
        assert found[f"{goal}.truth_ratio_closer_to_1"] == pytest.approx((0.25 + 0.5) / 2)
        assert found[f"{goal}.truth_ratio_true_better"] == pytest.approx((0.75 + 0) / 2)
        assert found[f"{goal}.truth_ratio_prob_mean"] == pytest.approx((0.8 + 1 / 3) / 2)
        assert found[f"{goal}.paraphrase_probability"] == pytest.approx(0.25)
    assert found["forget.truth_ratio"] == found["forget.truth_ratio_closer_to_1"]
    assert found["keep.truth_ratio"] == found["keep.truth_ratio_true_better"]
    published = compute(model, None, suites.further(1e-10))
    shares = np.array([0.4 / (0.5 + 1e-10), 0.1 / (0.3 + 1e-10)])
    assert published["forget.truth_ratio_prob_mean"] == pytest.approx(shares.mean(), rel=1e-14)


def test_forget_quality_s_logarithm_and_statistic_stand_beside_it() -> None:
    model = Evidence({"forget": _view("forget")})
    found = compute(model, model, suites.tofu(0.0) | suites.further())
    assert [found[f"forget_quality{end}"] for end in ("", "_ks", "_log10")] == [1, 0, 0]


def test_every_score_of_the_full_suite_has_its_direction() -> None:
    views = {"forget": View("f", "forget"), "retain": View("r")}
    metrics = suites.tofu(0.0) | suites.further()
    names = [f"{view}.{name}" for view in views for name in metrics]
    names += ["forget_quality_ks", "forget_quality_log10", "mia_zlib", "privleak_auc_retain"]
    names += ["privleak", "privleak_gap", "mia_min_k_plus_plus"]
    found = directions(names, views, metrics)
    lower = {name for name, way in found.items() if way == "lower" and not name.startswith("ret")}
    memorised = ("probability", "rouge_l", "exact_memorisation", "extraction_strength")
    memorised += ("extraction_strength_published", "paraphrase_probability", "rouge_1")
    memorised += ("rouge_l_f1", "truth_ratio_true_better", "truth_ratio_prob_mean")
    assert {f"forget.{name}" for name in memorised} <= lower
    assert {"forget.truth_ratio", "forget.truth_ratio_closer_to_1", "privleak"}.isdisjoint(lower)
    assert {"forget_quality_ks", "mia_zlib", "privleak_gap", "privleak_auc_retain"} <= lower
    assert "forget_quality_log10" not in lower
    kept = {n for n, way in found.items() if n.startswith("retain.") and way == "lower"}
    assert all("mia_" in name for name in kept)  # no view has one


def test_gibberish_of_a_log_is_clean_text_and_more_is_better(tmp_path: Path) -> None:
    """Published defect: the name says the opposite of the score."""
    rows = {"0": {"score": 0.9}, "1": {"score": 0.7}}
    probabilities = {row: {"prob": 0.5, "avg_loss": 0.7} for row in rows}
    content = {
        "forget_Q_A_gibberish": {"agg_value": 0.8, "value_by_index": rows},
        "forget_Q_A_Prob": {"agg_value": 0.5, "value_by_index": probabilities},
    }
    path = tmp_path / "TOFU_EVAL.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    log = open_log(path)
    scores = compute(log.evidence(), None, log.further())
    assert scores["forget.clean_text"] == pytest.approx(0.8)
    ways = directions(["forget.clean_text"], log.views, log.further())
    assert ways == {"forget.clean_text": "higher"}
    written, summary = (json.loads(path.read_text()) for path in write(tmp_path / "out", log, None))
    assert written["forget_Q_A_gibberish"]["value_by_index"] == rows
    assert summary["forget_Q_A_gibberish"] == pytest.approx(0.8)
