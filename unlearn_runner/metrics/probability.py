"""Probability of the right answer, length-normalised (TOFU)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_runner.metrics.base import Judged, Metric
from unlearn_runner.metrics.evidence import Floats


def probability(loss: Floats) -> Floats:
    """Returns exp(-L) per row, L the mean token NLL with the end of sequence counted."""
    return np.exp(-loss)


def option_probability(loss: Floats, wrong: Sequence[Floats], eps: float = 0.0) -> Floats:
    """Returns P / (P + the wrong options' P) per row.

    Args:
        loss: Mean token NLL of the right answer; [rows].
        wrong: Mean token NLLs of each row's wrong answers.
        eps: Added to the denominator; open-unlearning adds 1e-10, TOFU nothing.
    """
    if eps:
        right = probability(loss)
        return right / (right + np.array([probability(row).sum() for row in wrong]) + eps)
    # By log-sum-exp: after a runaway ascent every option's probability can underflow to zero.
    total = [np.logaddexp.reduce([-mine, *-row]) for mine, row in zip(loss, wrong, strict=True)]
    return np.exp(-loss - np.array(total))


@dataclass(frozen=True)
class Probability(Metric):
    """Mean over rows; among options where the view says so."""

    def score(self, name: str, judged: Judged) -> dict[str, float | None]:
        """Returns `<view>.<name>` for every view."""
        scores: dict[str, float | None] = {}
        for view in judged.model.views.values():
            if view.probability == "options":
                rows = option_probability(view.loss("answer"), view.losses("perturbed"))
            else:
                rows = probability(view.loss("answer"))
            scores[f"{view.name}.{name}"] = float(rows.mean())
        return scores
