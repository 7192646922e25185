"""Accuracy: how often the likeliest choice is the right one (MMLU, WMDP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn_runner.evaluation.files import Choices
from unlearn_runner.evaluation.metrics.base import ViewMetric
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Goal, Role, View

Per = Literal["choice", "character"]


def is_right(row: Choices, per: Per = "choice") -> bool:
    """Returns whether the likeliest choice is right, the first of equal ones.

    Args:
        row: Its choices.
        per: Whether log-probabilities are compared as they are, or per character of the choice
            (lm-evaluation-harness's acc and acc_norm).
    """
    scores = np.array(row.logprobs)
    if np.isnan(scores).any():
        return False
    return int(np.argmax(scores / row.characters if per == "character" else scores)) == row.correct


@dataclass(frozen=True)
class Accuracy(ViewMetric):
    """Share of questions whose likeliest choice is right; chance is one over the choices."""

    per: Per = "choice"

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns 1 for each question answered right, else 0."""
        rows = view.record.choices
        return None if rows is None else np.array([is_right(row, self.per) for row in rows], float)

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns nothing: choices are no answers of a role."""
        return ()

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on questions about what is to be forgotten."""
        return goal != "forget"
