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
from unlearn_runner.evaluation.schema import Goal, Role, View

Mean = Literal["geometric", "arithmetic"]
Form = Literal["goal", "closer_to_1_better", "true_better", "prob_mean"]


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


def right_share(loss: Floats, wrong: Sequence[Floats], mean: Mean, eps: float = 0.0) -> Floats:
    """Returns P(right) / (P(right) + P(wrong)) per row, arguments as of `truth_ratio`.

    The open-unlearning paper's form (`prob_mean` in its code): 1/2 where right and wrong are
    equally likely, 1 where the right answer alone is known.
    """
    ratio, right = truth_ratio(loss, wrong, mean), np.exp(-loss)
    with np.errstate(divide="ignore"):
        return 1 / (1 + ratio + (eps / right if eps else 0.0))


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
    form: Form = "goal"
    """What is averaged over rows, by open-unlearning's names: min(R, 1/R), max(0, 1 - R), or
    P(right) / (P(right) + P(wrong)); `goal` is the first on forget rows, else the second."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns what is averaged."""
        ratio = view_ratio(view, self.mean, self.eps)
        if ratio is None:
            return None
        if self.form == "prob_mean":
            right = view.right_role
            return right_share(view.loss(right), view.losses("perturbed"), self.mean, self.eps)
        if self._form(view.goal) == "closer_to_1_better":
            return forgetting(ratio, self.eps)
        return knowing(ratio)

    def _form(self, goal: Goal | None) -> Form:
        if self.form != "goal":
            return self.form
        return "closer_to_1_better" if goal == "forget" else "true_better"

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns right and wrong answers; the answer stands in for a paraphrase."""
        return () if view.goal == "unseen" else ("answer", "perturbed")

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false for what says that the right answer is known, on rows to be forgotten."""
        return goal != "forget" or self._form(goal) == "closer_to_1_better"
