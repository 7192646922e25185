"""Perplexity of texts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unlearn_runner.evaluation.metrics.base import ViewMetric
from unlearn_runner.evaluation.metrics.evidence import ViewEvidence
from unlearn_runner.evaluation.schema import Goal


@dataclass(frozen=True)
class Perplexity(ViewMetric):
    """exp of the mean NLL of all scored tokens of a view, rows of more tokens counting more.

    Infinite beyond what a float holds.
    """

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the perplexity; `None` where the log-probabilities are missing."""
        found = view.record.tokens
        if found is None or not view.has("answer"):
            return None
        lengths = [len(row.hit) for row in found.tokens]
        mean = float(np.average(view.loss("answer"), weights=lengths))
        return math.exp(mean) if mean < 700 else math.inf

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns true on rows to be forgotten: they are to become unlikely."""
        return goal == "forget"
