"""Base classes of methods: terms for the training loop, each one loss over one split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.losses.base import Loss, Unit, retain_loss

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(0)]
Reduction = Literal["token", "sequence_sum"]
Split = Literal["forget", "retain", "train", "refusal", "mixed", "tail"]
"""Split a loss is over: forget rows; retain rows; a fine-tune's rows; the forget questions with
refusals for answers; those and the retain rows together; forget rows without the first tokens of
their answers."""
AnsweredSplit = Literal["forget", "retain"]
"""Splits whose questions may be given other answers."""


@dataclass(frozen=True)
class Term:
    """One loss over one split; a step minimises the weighted sum of a method's terms."""

    name: str
    split: Split
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
    """Settings of a method's retain term."""

    loss: Literal["none", "nll", "kl", "rr", "ap"] = "nll"
    """Nothing; likelihood of the retain answers; KL to the start model on them; closeness to its
    hidden states (representation retention); preference of the answer over a refusal."""
    weight: NonNegative = 1.0
    positions: Literal["answer", "all"] = "answer"
    """Of `kl`: where it is taken. The published codes take all positions, and padding."""
    layer: Count | None = None
    """Of `rr`: after how many blocks; null is three eighths of them (RMU: where RMU steers)."""
    over: Literal["sum", "mean"] = "sum"
    """Of `rr`: the squared norm, or its mean over the hidden dimension."""
    beta: Positive = 0.1
    """Of `ap`: inverse temperature."""

    def terms(self, unit: Unit) -> tuple[Term, ...]:
        """Returns the retain term, or nothing."""
        if self.loss == "none" or self.weight == 0:
            return ()
        if self.loss == "kl" and self.positions == "all" and unit == "token":
            unit = "position"
        of = {"kl": ("positions",), "rr": ("layer", "over"), "ap": ("beta",)}
        settings = {name: getattr(self, name) for name in of.get(self.loss, ())}
        chosen = retain_loss(self.loss, **settings)
        if chosen.per_row:
            unit = "row"
        return (Term("retain", "retain", chosen, self.weight, unit),)


def no_retain() -> Retain:
    """Returns the setting of methods whose plain form has no retain term."""
    return Retain(loss="none")


@dataclass(frozen=True)
class Alternates:
    """Settings of sampling other answers from the start model."""

    number: Annotated[int, Ge(1), Le(1000)] = 5
    """Number of alternates per question."""
    temperature: Annotated[float, Gt(0), Le(1000)] = 1.0
    """Temperature of sampling. An alternate that repeats the answer is drawn again, hotter."""
    instruction: str = "{question}"
    """Prompt of the model, with {question} and {answer} filled in. A model that follows
    instructions can be told to change facts; a plain one gets the question again."""
    max_new_tokens: Annotated[int, Ge(1), Le(1048576)] = 100


@dataclass(frozen=True)
class Prerequisites:
    """Inputs that a method needs beside its rows and the start model."""

    start_logprobs: bool = False
    """Log-probabilities of the forget answers under the start model."""
    alternatives: tuple[AnsweredSplit, ...] = ()
    """Splits whose questions are given other answers."""
    alternates: Alternates | None = None
    """How other answers to forget questions are sampled; none: they are refusals."""
    alternative_logprobs: bool = False
    """Log-probabilities of the other answers under the start model."""

    @property
    def refusals(self) -> bool:
        """Whether any other answer is a refusal."""
        return "retain" in self.alternatives or (
            "forget" in self.alternatives and self.alternates is None
        )


@dataclass(frozen=True)
class Method(ABC):
    """Base class of methods, of those with settings of their own only.

    Most methods are an `Objective`; what changes the weights in one go is a
    `methods.one_shot.OneShot`.
    """

    one_shot: ClassVar[bool] = False
    """Whether it changes the weights in one go: no loop, so no rectifier and no adapter."""
    solves: ClassVar[bool] = False
    """Whether the change is the solution of a linear system in derivatives of the training risk."""

    retrains: ClassVar[bool] = False
    """Whether the change is a training of the target's base on other rows, by `target.train`."""

    on_corrected: ClassVar[bool] = False
    """Whether the rows it takes for forget rows are those with what should have been."""

    @property
    def needs_whole(self) -> bool:
        """Whether it takes second derivatives, which a model in shards does not give."""
        return False

    @property
    def skip(self) -> int:
        """How many tokens at the front of an answer the split `tail` leaves out."""
        return 0

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """Returns the terms the loop minimises."""

    def prerequisites(self) -> Prerequisites:
        """Returns what must be computed or read before the method can begin."""
        terms = self.terms()
        splits: tuple[AnsweredSplit, ...] = ("forget", "retain")
        return Prerequisites(
            start_logprobs=any(term.loss.needs_start_logprobs for term in terms),
            alternatives=tuple(s for s in splits if needs_alternatives(terms, s)),
            alternative_logprobs=any(
                term.loss.needs_start_logprobs and term.loss.needs_alternative for term in terms
            ),
        )

    def finetunes(self, forget: Rows) -> tuple[Rows, ...]:
        """Returns the sets of rows on each of which the start model is fine-tuned beforehand."""
        return ()

    def trains(self, name: str) -> bool:
        """Returns whether a parameter is to be trained; all are unless a method says otherwise."""
        return True

    def terms_after(self, state: dict[str, float]) -> tuple[Term, ...]:
        """Returns the terms as `state` has them, for methods whose weights move."""
        return self.terms()

    def after_step(
        self, losses: dict[str, float], epoch: float, state: dict[str, float]
    ) -> dict[str, float]:
        """Returns the state after a finished step; it is saved and shown in telemetry.

        Args:
            losses: Each term's loss over the whole step, by the term's name.
            epoch: Passes over the forget rows done by now.
            state: Numbers that later steps depend on; empty at first.
        """
        return state


@dataclass(frozen=True)
class Objective(Method):
    """Base class of methods that minimise one loss on forget rows, and one on retain rows."""

    loss: ClassVar[type[Loss]]
    """Class of the loss on forget rows; it takes its settings from the fields of the same names."""

    retain: Retain = field(default_factory=Retain)
    reduction: Reduction = "token"
    """Mean over answer tokens (the scale of the published weights), or `sequence_sum`: sum over a
    row's tokens, mean over rows (the form most papers print). Losses of whole rows are row means
    either way."""
    weight: NonNegative = 1.0
    """Of the forget term."""

    @property
    def unit(self) -> Unit:
        """What token losses are divided by."""
        return "token" if self.reduction == "token" else "row"

    def terms(self) -> tuple[Term, ...]:
        """Returns the forget term and the retain term."""
        return self.forget_term(), *self.retain.terms(self.unit)

    def forget_term(self, split: Split = "forget") -> Term:
        """Returns the term of `loss`."""
        names = [field.name for field in fields(self.loss) if hasattr(self, field.name)]
        loss = self.loss(**{name: getattr(self, name) for name in names})
        return Term("forget", split, loss, self.weight, "row" if loss.per_row else self.unit)


def needs_start_model(terms: tuple[Term, ...]) -> bool:
    """Returns whether any term needs the start model itself."""
    return any(term.loss.needs_start_model for term in terms)


def needs_alternatives(terms: tuple[Term, ...], split: AnsweredSplit) -> bool:
    """Returns whether any term reads other answers to the questions of a split."""
    instead = split == "forget" and any(term.split in ("refusal", "mixed") for term in terms)
    return instead or any(term.split == split and term.loss.needs_alternative for term in terms)
