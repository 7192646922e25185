"""ROUGE-L of the generated answer against the true one (Lin 2004): recall (TOFU) or F1 (MUSE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np

from unlearn_runner.evaluation.metrics.base import ViewMetric
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Goal

Value = Literal["recall", "f1"]


@cache
def _scorer() -> Any:
    from rouge_score import rouge_scorer

    from unlearn_runner.evaluation.metrics import words

    class Tokenizer:
        def tokenize(self, text: str) -> list[str]:
            return words.words(text)

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=Tokenizer())


def rouge_l_recall(generations: Sequence[str], answers: Sequence[str]) -> Floats:
    """Returns the ROUGE-L recall of each generation, of `words.words`; [rows].

    NaN for a row whose answer is empty: there is nothing to recall.
    """
    return _rouge_l(generations, answers, "recall")


def _rouge_l(generations: Sequence[str], answers: Sequence[str], value: Value) -> Floats:
    pairs = zip(answers, generations, strict=True)
    name = "recall" if value == "recall" else "fmeasure"
    return np.array(
        [
            getattr(_scorer().score(answer, text)["rougeL"], name) if answer.strip() else np.nan
            for answer, text in pairs
        ]
    )


def recalls(view: ViewEvidence) -> Floats | None:
    """Returns ROUGE-L recall per row: from the texts, else as recorded, else none."""
    return _of_view(view, "recall")


def _of_view(view: ViewEvidence, value: Value) -> Floats | None:
    texts, recorded = view.record.texts, view.record.recalls
    if texts is not None:
        return _of_texts(tuple(texts.generations), tuple(texts.answers), value)
    return None if recorded is None or value != "recall" else np.array(recorded)


@lru_cache(maxsize=16)
def _of_texts(generations: tuple[str, ...], answers: tuple[str, ...], value: Value) -> Floats:
    """Computes a view's values once: a score and its interval both want them."""
    return _rouge_l(generations, answers, value)


@dataclass(frozen=True)
class RougeL(ViewMetric):
    """Mean ROUGE-L over rows that have an answer."""

    value: Value = "recall"
    """Recall, or F1, which an answer that goes on and on does not win by."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each row's value."""
        return _of_view(view, self.value)

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the mean of the rows that have one."""
        rows = self.of_rows(view)
        known = [] if rows is None else rows[~np.isnan(rows)]
        return float(np.mean(known)) if len(known) else None

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"
