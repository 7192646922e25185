"""What a method is: terms for the training loop, each one loss over one split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge

from unlearn_runner.methods.losses import Loss, RetainLoss, Unit, retain_loss

Reduction = Literal["token", "sequence_sum"]


@dataclass(frozen=True)
class Term:
    """One loss over one split; a step minimises the weighted sum of a method's terms."""

    name: str
    split: Literal["forget", "retain", "train"]
    loss: Loss
    weight: float = 1.0
    unit: Unit = "token"
    """What the batch's loss sum is divided by the number of."""

    def same_loss(self, other: Term) -> bool:
        """Returns whether both terms have the same gradient up to their weights."""
        mine, theirs = (self.split, self.loss, self.unit), (other.split, other.loss, other.unit)
        return mine == theirs


@dataclass(frozen=True)
class Retain:
    """The retain side of a method."""

    loss: Literal["none"] | RetainLoss = "nll"
    """Nothing, likelihood of the retain answers, or closeness to the start model on them."""
    weight: Annotated[float, Ge(0)] = 1.0

    def terms(self, unit: Unit) -> tuple[Term, ...]:
        """Returns the retain term, or nothing."""
        if self.loss == "none" or self.weight == 0:
            return ()
        return (Term("retain", "retain", retain_loss(self.loss), self.weight, unit),)


def no_retain() -> Retain:
    """Returns the setting of methods whose plain form looks at forget rows only."""
    return Retain(loss="none")


@dataclass(frozen=True)
class Method(ABC):
    """Base class of methods."""

    retain: Retain = field(default_factory=Retain)
    reduction: Reduction = "token"
    """Mean over answer tokens (the scale of the published weights), or `sequence_sum`: sum over a
    row's tokens, mean over rows (the form most papers print)."""

    @property
    def unit(self) -> Unit:
        """What token losses are divided by."""
        return "token" if self.reduction == "token" else "row"

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """Returns the terms the loop minimises."""


def needs_start_logprobs(terms: tuple[Term, ...]) -> bool:
    """Returns whether any term reads the start model's log-probabilities of the forget rows."""
    return any(term.loss.needs_start_logprobs for term in terms)


def needs_start_model(terms: tuple[Term, ...]) -> bool:
    """Returns whether any term needs the start model itself."""
    return any(term.loss.needs_start_model for term in terms)
