"""Rectifiers that keep a method's objective whole and watch a retain risk beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import RetainLoss, retain_loss
from unlearn_runner.rectifiers.base import Group, Rectifier

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

OBJECTIVE, RISK = "objective", "risk"


@dataclass(frozen=True)
class WatchesRisk(Rectifier):
    """Base class: the gradient of the whole objective, and of a retain risk."""

    risk: RetainLoss = "nll"
    """What the retain gradient is of: NLL of retain answers, or KL to the start model on them."""

    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        """Returns the objective without the retain risk, and the watched risk.

        A retain term of the method that *is* the risk moves to the risk's pass, and `objective`
        adds its share back: two passes serve both.
        """
        risk, _ = self.watched(terms)
        rest = tuple(term for term in terms if not term.same_loss(risk))
        return Group(OBJECTIVE, rest), Group(RISK, (risk,))

    def watched(self, terms: tuple[Term, ...]) -> tuple[Term, float]:
        """Returns the watched term, with weight 1, and its weight in the method's objective."""
        risk = on_retain_rows("retain_risk", self.risk, terms)
        return risk, sum(term.weight for term in terms if term.same_loss(risk))

    def objective(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        space: GradientSpace,
    ) -> Gradient:
        """Returns the gradient of the method's whole objective; overwrites that of its group."""
        _, weight = self.watched(terms)
        objective = gradients[OBJECTIVE]
        return space.add(objective, gradients[RISK], weight) if weight else objective


def on_retain_rows(name: str, of: RetainLoss, terms: tuple[Term, ...]) -> Term:
    """Returns a term of weight 1, in the unit of the method's own retain term of the same loss."""
    loss = retain_loss(of)
    alike = [term for term in terms if term.split == "retain" and term.loss == loss]
    return Term(name, "retain", loss, unit=alike[0].unit if alike else "token")


def cosine(a: Gradient, b: Gradient, space: GradientSpace) -> float | None:
    """Returns the cosine of two gradients or updates; none if either is zero or not finite."""
    dot, *squares = space.dots((a, b), (a, a), (b, b))
    length = math.sqrt(squares[0] * squares[1])
    return dot / length if length > 0 and math.isfinite(length) else None
