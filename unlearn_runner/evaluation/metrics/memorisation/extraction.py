"""Extraction strength: how little of an answer must be given for the model to say the rest.

Carlini et al. 2021: 1 - k/T, where k is the shortest prefix behind which every token of the T is
what the model would say; teacher-forced, the end of sequence left out (open-unlearning).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn_runner.evaluation.files import Tokens
from unlearn_runner.evaluation.metrics.base import ViewMetric, known_mean
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.metrics.memorisation.exact import hits
from unlearn_runner.evaluation.schema import Goal

RECORDED = "extraction_strength"
Form = Literal["fixed", "published"]


def extraction_strength(answers: Sequence[Tokens], form: Form = "fixed") -> Floats:
    """Returns 1 - k/T of each answer; [rows].

    Args:
        answers: Their tokens.
        form: `fixed` is 0 where not even the last token is said, and NaN for an answer without
            tokens. `published` is open-unlearning's code: its search ends at the last token
            whether or not that is said, so no answer is below 1/T; one without tokens is 0.
    """
    found = []
    for answer in answers:
        said = hits(answer)
        misses = np.flatnonzero(~said)
        k = misses[-1] + 1 if len(misses) else 0
        if not len(said):
            found.append(np.nan if form == "fixed" else 0.0)
        else:
            found.append(1 - (k if form == "fixed" else min(k, len(said) - 1)) / len(said))
    return np.array(found, float)


@dataclass(frozen=True)
class ExtractionStrength(ViewMetric):
    """Mean extraction strength."""

    form: Form = "fixed"
    """`published` never reaches 0; see `extraction_strength`. Logs record that form alone."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each row's strength: from its tokens, else as recorded."""
        if view.record.tokens is not None:
            return extraction_strength(view.record.tokens.tokens, self.form)
        return view.recorded(RECORDED) if self.form == "published" else None

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the mean over rows that have one."""
        return known_mean(self.of_rows(view))

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"
