"""Truth ratio: how much likelier wrong answers are than the right one (TOFU).

R = P(wrong) / P(right) per row, with length-normalised probabilities and, on rows that have one,
the paraphrased answer as the right one. R = 1 says the model cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from unlearn_runner.evaluation.metrics.base import ViewMetric
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Role, View

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


def forgetting(ratio: Floats, eps: float = 0.0) -> Floats:
    """Returns min(R, 1/R) per row: near 1 when right and wrong are equally likely.

    Args:
        ratio: R per row.
        eps: Added to R before it is inverted; open-unlearning adds 1e-10, TOFU nothing.
    """
    with np.errstate(divide="ignore"):
        return np.minimum(ratio, 1 / (ratio + eps))


def knowing(ratio: Floats) -> Floats:
    """Returns max(0, 1 - R) per row: near 1 when the right answer is far likelier."""
    return np.maximum(0, 1 - ratio)


def view_ratio(view: ViewEvidence, mean: Mean, eps: float = 0.0) -> Floats | None:
    """Returns R per row of a view, or none where its answers were not scored."""
    if not view.has(view.right_role, "perturbed"):
        return None
    return truth_ratio(view.loss(view.right_role), view.losses("perturbed"), mean, eps)


@dataclass(frozen=True)
class TruthRatio(ViewMetric):
    """Truth ratio of every view, aggregated by whether its rows are to be forgotten or kept."""

    mean: Mean = "geometric"
    eps: Annotated[float, Ge(0)] = 0.0
    """Added to what R, and 1/R, divide by: 1e-10 in open-unlearning, nothing in TOFU."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns what fits the view's goal."""
        ratio = view_ratio(view, self.mean, self.eps)
        if ratio is None:
            return None
        return forgetting(ratio, self.eps) if view.goal == "forget" else knowing(ratio)

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns right and wrong answers; the answer stands in for a paraphrase."""
        return ("answer", "perturbed")
