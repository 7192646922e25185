"""Membership attacks: can one tell the forget rows from rows that no model has seen?

Each attack gives every answer a score that is high where it looks *less* like a training row; the
metric is the AUC, as open-unlearning orients it: 1 where each forget row looks like a training row
(the fine-tuned model), 0.5 where nothing tells them apart, about 0.4 for TOFU's retain models. The
original MUSE code reports 1 minus it. Far below the retain model's AUC is no better than far above:
compare with it (`privleak_gap`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from annotated_types import Gt, Le

from unlearn_runner.evaluation.files import Tokens
from unlearn_runner.evaluation.metrics.base import Metric, MetricInputs, Sample
from unlearn_runner.evaluation.metrics.evidence import Evidence, Floats, ViewEvidence
from unlearn_runner.evaluation.metrics.membership.auc import auc, sampled_auc
from unlearn_runner.evaluation.schema import Goal, Norm, Role, View

Share = Annotated[float, Gt(0), Le(1)]
MIN_VARIANCE = 1e-6
"""Of a token's log-probability, below which min-k++ does not divide (open-unlearning)."""


class Attacked(NamedTuple):
    """Scores of both sides, and the views they are of."""

    members: Floats
    others: Floats
    views: tuple[str, str]

    def sampled(self, sample: Sample) -> Floats:
        """Returns the AUC of every bootstrap sample; [samples]."""
        drawn, drawn_others = (sample.counts[view] for view in self.views)
        return sampled_auc(self.members, self.others, drawn, drawn_others)


def lowest(values: Floats, share: float) -> float:
    """Returns the mean of the lowest `share` of values, at least one; NaN of none."""
    if not len(values):
        return np.nan
    return float(np.sort(values)[: max(1, int(share * len(values)))].mean())


@dataclass(frozen=True)
class Attack(Metric):
    """Base class of attacks: a score per row, higher for what looks less like a member."""

    recorded: ClassVar[str]
    """Under which name open-unlearning's logs record the scores."""
    members: str | None = field(default=None, kw_only=True)
    """View of the rows that the model may have read; null is the first to be forgotten."""
    others: str | None = field(default=None, kw_only=True)
    """View of rows that no model has read; null is the first unseen one."""

    @abstractmethod
    def of_answers(self, view: ViewEvidence, retain_model: ViewEvidence | None) -> Floats | None:
        """Returns the score of each row from its own evidence, or none where that lacks it."""

    def attacked(self, model: Evidence, retain_model: Evidence | None) -> Attacked | None:
        """Returns the scores of both sides, each of the first of its views that has them."""
        wanted: tuple[tuple[Goal, str | None], ...]
        wanted = (("forget", self.members), ("unseen", self.others))
        members, others = (
            next(self._of_views(model, retain_model, goal, name), None) for goal, name in wanted
        )
        if members is None or others is None:
            return None
        return Attacked(members[1], others[1], (members[0], others[0]))

    @property
    def named_views(self) -> dict[str, str]:
        """The views of both sides, where they are named."""
        sides = {"members": self.members, "others": self.others}
        return {setting: view for setting, view in sides.items() if view is not None}

    def _of_views(
        self, model: Evidence, retain_model: Evidence | None, goal: Goal, wanted: str | None
    ) -> Iterator[tuple[str, Floats]]:
        theirs = {} if retain_model is None else retain_model.views
        for name, view in model.views.items():
            if name == wanted or (wanted is None and view.goal == goal):
                found = view.recorded(self.recorded)
                found = self.of_answers(view, theirs.get(name)) if found is None else found
                if found is not None and len(found):
                    yield name, found

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns `<name>`, the AUC."""
        found = self.attacked(inputs.model, inputs.retain_model)
        return {name: None if found is None else auc(found.members, found.others)}

    def sampled(self, name: str, sample: Sample) -> dict[str, Floats]:
        """Returns the AUC of people drawn on either side."""
        found = self.attacked(sample.model, sample.retain_model)
        return {} if found is None else {name: found.sampled(sample)}

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns nothing: every row has its answer."""
        return ()

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false: the fine-tuned model's is 1. Below the retain model's it is no better."""
        return False


@dataclass(frozen=True)
class Loss(Attack):
    """Mean token NLL, the end of sequence counted (Yeom et al. 2018)."""

    recorded: ClassVar[str] = "mia_loss"

    def of_answers(self, view: ViewEvidence, retain_model: ViewEvidence | None) -> Floats | None:
        """Returns the mean token NLL of each answer."""
        return view.loss("answer") if view.has("answer") else None


@dataclass(frozen=True)
class Zlib(Attack):
    """Mean token NLL over the compressed bytes of the text (Carlini et al. 2021).

    Published so: a *mean* over tokens is divided by a length, so the score falls with the length of
    the text, and forget and unseen rows must be equally long to be compared.
    """

    recorded: ClassVar[str] = "mia_zlib"

    def of_answers(self, view: ViewEvidence, retain_model: ViewEvidence | None) -> Floats | None:
        """Returns the mean token NLL of each answer over its compressed length in bytes."""
        tokens = view.record.tokens
        if tokens is None or tokens.zlib is None:
            return None
        return view.loss("answer") / np.array(tokens.zlib, float)


@dataclass(frozen=True)
class _OfTokens(Attack):
    def of_answers(self, view: ViewEvidence, retain_model: ViewEvidence | None) -> Floats | None:
        """Returns the score of each answer's tokens, the end of sequence left out."""
        tokens = view.record.tokens
        return None if tokens is None else self.of_tokens(tokens.tokens)

    @abstractmethod
    def of_tokens(self, answers: Sequence[Tokens]) -> Floats:
        """Returns the score of each answer; [rows]."""


@dataclass(frozen=True)
class MinK(_OfTokens):
    """Mean of the lowest share of token log-probabilities, negated (Shi et al. 2024)."""

    k: Share = 0.4
    """The share; 0.4 in open-unlearning's configurations, 0.2 in its code's default."""

    recorded: ClassVar[str] = "mia_min_k"

    def of_tokens(self, answers: Sequence[Tokens]) -> Floats:
        """Returns minus the mean of the lowest log-probabilities."""
        found = (answer.logprob[:-1].astype(float) for answer in answers)
        return np.array([-lowest(values, self.k) for values in found])


@dataclass(frozen=True)
class MinKPlusPlus(_OfTokens):
    """Min-k of log-probabilities standardised by the model's distribution (Zhang et al. 2025)."""

    k: Share = 0.4

    recorded: ClassVar[str] = "mia_min_k_plus_plus"

    def of_tokens(self, answers: Sequence[Tokens]) -> Floats:
        """Returns minus the mean of the lowest standardised log-probabilities."""
        found = []
        for answer in answers:
            logprob, mean, variance = (
                column[:-1].astype(float)
                for column in (answer.logprob, answer.mean, answer.variance)
            )
            z = (logprob - mean) / np.sqrt(np.maximum(variance, MIN_VARIANCE))
            found.append(-lowest(z, self.k))
        return np.array(found)


@dataclass(frozen=True)
class Reference(Attack):
    """Mean token NLL less that of a reference model (Carlini et al. 2021): the retain model."""

    recorded: ClassVar[str] = "mia_reference"
    needs_retain_model: ClassVar[bool] = True

    def of_answers(self, view: ViewEvidence, retain_model: ViewEvidence | None) -> Floats | None:
        """Returns the difference of each answer's losses; none unless both models have all rows."""
        if retain_model is None or not (view.has("answer") and retain_model.has("answer")):
            return None
        mine, theirs = view.shared(retain_model)
        if len(mine) < view.rows:
            return None
        return view.loss("answer")[mine] - retain_model.loss("answer")[theirs]


@dataclass(frozen=True)
class GradNorm(Attack):
    """Norm of the gradient of the loss, a mean over the model's tensors (Wang et al. 2024).

    As open-unlearning has it: of the mean token NLL, the end of sequence left out. Read from the
    probe `gradients`, or as a log recorded it.
    """

    norm: Norm = "l2"
    """Of each tensor; open-unlearning's p is 1, 2 or infinity, 2 in its configurations."""

    recorded: ClassVar[str] = "mia_gradnorm"

    def of_answers(self, view: ViewEvidence, retain_model: ViewEvidence | None) -> Floats | None:
        """Returns the norm of each row."""
        found = view.record.gradients.get(self.norm)
        return None if found is None else np.array(found, float)
