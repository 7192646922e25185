"""Exact match: answers that are the expected ones, word for word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn_runner.evaluation.metrics.base import ViewMetric
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Goal


@dataclass(frozen=True)
class ExactMatch(ViewMetric):
    """Share of generated answers that are the expected ones, apart from case and outer white space.

    LUME's knowledge score (SemEval-2025 task 4).
    """

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns 1 or 0 of each row."""
        texts = view.record.texts
        if texts is None:
            return None
        pairs = zip(texts.generations, texts.answers, strict=True)
        return np.array([a.strip().lower() == b.strip().lower() for a, b in pairs], float)

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"
