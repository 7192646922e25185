"""Probability of the right answer, length-normalised (TOFU)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from unlearn_runner.evaluation.metrics.base import ViewMetric
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Goal, Role, View


def probability(loss: Floats) -> Floats:
    """Returns exp(-L) per row, L the mean token NLL with the end of sequence counted."""
    return np.exp(-loss)


def option_probability(loss: Floats, wrong: Sequence[Floats]) -> Floats:
    """Returns P / (P + the wrong options' P) per row, from mean token NLLs; [rows]."""
    # By log-sum-exp: after a runaway ascent every option's probability can underflow to zero.
    total = [np.logaddexp.reduce([-mine, *-row]) for mine, row in zip(loss, wrong, strict=True)]
    return np.exp(-loss - np.array(total))


def option_share(right: Floats, wrong: Sequence[Floats], eps: float) -> Floats:
    """Returns P / (P + the wrong options' P + eps) per row, from probabilities."""
    return right / (right + np.array([row.sum() for row in wrong]) + eps)


@dataclass(frozen=True)
class Probability(ViewMetric):
    """Mean over rows; among options where the view says so."""

    eps: Annotated[float, Ge(0)] = 0.0
    """Added to the denominator among options: 1e-10 in open-unlearning, nothing in TOFU."""
    role: Literal["answer", "paraphrased"] = "answer"
    """Which answer: the plain one, or its paraphrase, which is scored by itself alone."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each row's probability."""
        if view.probability == "answer" or self.role != "answer":
            return _of(self.role, view) if view.has(self.role) else None
        if not view.has("answer", "perturbed"):
            return None
        if self.eps:
            return option_share(_of("answer", view), view.probabilities("perturbed"), self.eps)
        return option_probability(view.loss("answer"), view.losses("perturbed"))

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns the answer, and the wrong options where it is a share of them."""
        if self.role != "answer":
            return ()  # facts have no paraphrase, and no score
        return ("answer", "perturbed") if view.probability == "options" else ("answer",)

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"


def _of(role: Role, view: ViewEvidence) -> Floats:
    return np.array([answers[0] for answers in view.probabilities(role)])
