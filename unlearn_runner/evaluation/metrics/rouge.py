"""ROUGE-L recall of the generated answer against the true one (Lin 2004, as TOFU uses it)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from unlearn_runner.evaluation.metrics.base import ViewMetric
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Goal


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
    pairs = zip(answers, generations, strict=True)
    return np.array(
        [
            _scorer().score(answer, text)["rougeL"].recall if answer.strip() else np.nan
            for answer, text in pairs
        ]
    )


def recalls(view: ViewEvidence) -> Floats | None:
    """Returns ROUGE-L recall per row: from the texts, else as recorded, else none."""
    texts, recorded = view.record.texts, view.record.recalls
    if texts is not None:
        return _recalls(tuple(texts.generations), tuple(texts.answers))
    return None if recorded is None else np.array(recorded)


@lru_cache(maxsize=16)
def _recalls(generations: tuple[str, ...], answers: tuple[str, ...]) -> Floats:
    """Computes a view's recalls once: a score and its interval both want them."""
    return rouge_l_recall(generations, answers)


@dataclass(frozen=True)
class RougeL(ViewMetric):
    """Mean ROUGE-L recall over rows that have an answer."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each row's recall."""
        return recalls(view)

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the mean recall of the rows that have one."""
        rows = self.of_rows(view)
        known = [] if rows is None else rows[~np.isnan(rows)]
        return float(np.mean(known)) if len(known) else None

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"
