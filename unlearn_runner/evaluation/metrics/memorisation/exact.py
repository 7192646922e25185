"""Exact memorisation: the share of an answer's tokens that the model would say itself.

Tirumala et al. 2022, as open-unlearning computes it: teacher-forced, the end of sequence left out.
A label is said when no token is likelier; open-unlearning takes the arg-max, which differs where
two logits are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn_runner.evaluation.files import Tokens
from unlearn_runner.evaluation.metrics.base import ViewMetric, known_mean
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Goal

RECORDED = "exact_memorization"


def said(answer: Tokens) -> Any:
    """Returns which tokens the model would say itself, the end of sequence among them; [tokens]."""
    # Nothing is likelier than a label without a number: a model of NaN would know all by heart.
    return answer.hit & ~np.isnan(answer.logprob)


def hits(answer: Tokens) -> Any:
    """Returns which tokens before the end of sequence the model would say itself; [tokens - 1]."""
    return said(answer)[:-1]


def exact_memorisation(answers: Sequence[Tokens]) -> Floats:
    """Returns the share of each answer's tokens that are hits; [rows], NaN for an empty answer."""
    found = (hits(answer) for answer in answers)
    return np.array([hit.mean() if len(hit) else np.nan for hit in found], float)


@dataclass(frozen=True)
class ExactMemorisation(ViewMetric):
    """Mean share over rows that have a token."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each row's share: from its tokens, else as recorded."""
        if view.record.tokens is not None:
            return exact_memorisation(view.record.tokens.tokens)
        return view.recorded(RECORDED)

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the mean over rows that have a token."""
        return known_mean(self.of_rows(view))

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"
