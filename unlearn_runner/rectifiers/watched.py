"""Rectifiers that keep a method's objective whole and watch a retain risk beside it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import RetainLoss, retain_loss
from unlearn_runner.rectifiers.base import Group, Rectifier, RectifierState

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

OBJECTIVE, RISK, MEAN = "objective", "risk", "mean"


@dataclass(frozen=True)
class Watcher(Rectifier):
    """Base class: the gradient of the whole objective, and of a retain risk."""

    @abstractmethod
    def watched(self, terms: tuple[Term, ...]) -> Term:
        """Returns the risk, as a term of weight 1."""

    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        """Returns the objective without the retain risk, and the watched risk.

        A retain term of the method that *is* the risk moves to the risk's pass, and `objective`
        adds its share back: two passes serve both.
        """
        risk = self.watched(terms)
        rest = tuple(term for term in terms if not term.same_loss(risk))
        return Group(OBJECTIVE, rest), Group(RISK, (risk,))

    def objective(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        space: GradientSpace,
    ) -> Gradient:
        """Returns the gradient of the method's whole objective; overwrites that of its group."""
        risk, objective = self.watched(terms), gradients[OBJECTIVE]
        weight = sum(term.weight for term in terms if term.same_loss(risk))
        return space.add(objective, gradients[RISK], weight) if weight else objective


@dataclass(frozen=True)
class WatchesRisk(Watcher):
    """Base class of those that let their user choose the risk."""

    risk: RetainLoss = "nll"
    """What the retain gradient is of: NLL of retain answers, or KL to the start model on them."""

    def watched(self, terms: tuple[Term, ...]) -> Term:
        """Returns the chosen risk."""
        return on_retain_rows("retain_risk", self.risk, terms)


def on_retain_rows(name: str, of: RetainLoss, terms: tuple[Term, ...]) -> Term:
    """Returns a term of weight 1, in the unit of the method's own retain term of the same loss."""
    loss = retain_loss(of)
    alike = [term for term in terms if term.split == "retain" and term.loss == loss]
    return Term(name, "retain", loss, unit=alike[0].unit if alike else "token")


def advance_mean(
    state: RectifierState, new: Gradient, gamma: float, space: GradientSpace
) -> Gradient:
    """Returns the running mean gamma * new + (1 - gamma) * old, which begins at zero; keeps it.

    Overwrites `new` where nothing of old is left.
    """
    if MEAN in state and gamma < 1:
        state[MEAN] = space.mix(state[MEAN], new, gamma)
    else:
        state[MEAN] = space.scale(new, gamma)
    return state[MEAN]
