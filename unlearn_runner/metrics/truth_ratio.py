"""Truth ratio: how much likelier wrong answers are than the right one (TOFU).

R = P(wrong) / P(right) per row, with length-normalised probabilities and, on rows that have one,
the paraphrased answer as the right one. R = 1 says the model cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn_runner.metrics.base import Judged, Metric
from unlearn_runner.metrics.evidence import Floats, ViewEvidence

Mean = Literal["geometric", "arithmetic"]


def truth_ratio(
    loss: Floats, wrong: Sequence[Floats], mean: Mean = "geometric", eps: float = 0.0
) -> Floats:
    """Returns R per row, wrong over right.

    Args:
        loss: Mean token NLL of the right (paraphrased) answer; [rows].
        wrong: Mean token NLLs of each row's perturbed answers.
        mean: How the wrong answers' probabilities are averaged. The geometric mean is what the
            TOFU repository's aggregation and open-unlearning use; the arithmetic one is the
            paper's text.
        eps: Added to the right answer's probability; open-unlearning adds 1e-10, TOFU nothing.
    """
    if mean == "geometric":
        log_wrong = np.array([-row.mean() for row in wrong])
    else:
        log_wrong = np.array([np.logaddexp.reduce(-row) - np.log(len(row)) for row in wrong])
    with np.errstate(over="ignore"):  # R = inf is an answer: the right one has no probability
        if eps:
            return np.exp(log_wrong) / (np.exp(-loss) + eps)
        return np.exp(log_wrong + loss)


def forgetting(ratio: Floats) -> float:
    """Returns the mean of min(R, 1/R): near 1 when right and wrong are equally likely."""
    with np.errstate(divide="ignore"):
        return float(np.minimum(ratio, 1 / ratio).mean())


def knowing(ratio: Floats) -> float:
    """Returns the mean of max(0, 1 - R): near 1 when the right answer is far likelier."""
    return float(np.maximum(0, 1 - ratio).mean())


def view_ratio(view: ViewEvidence, mean: Mean) -> Floats:
    """Returns R per row of a view; without a paraphrase the plain answer is the right one."""
    role = "paraphrased" if view.has("paraphrased") else "answer"
    return truth_ratio(view.loss(role), view.losses("perturbed"), mean)


@dataclass(frozen=True)
class TruthRatio(Metric):
    """Truth ratio of every view, aggregated by whether its rows are to be forgotten or kept."""

    mean: Mean = "geometric"

    def score(self, name: str, judged: Judged) -> dict[str, float | None]:
        """Returns `<view>.<name>` for every view."""
        scores: dict[str, float | None] = {}
        for view in judged.model.views.values():
            ratio = view_ratio(view, self.mean)
            aggregate = forgetting if view.goal == "forget" else knowing
            scores[f"{view.name}.{name}"] = aggregate(ratio)
        return scores
