"""Rectifier: maps the gradients of groups of terms to the one gradient that is stepped with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.methods.base import Term

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

RectifierState = dict[str, Any]
"""What a rectifier carries from step to step, by name: gradients, and plain numbers or lists of
numbers in a tuple; saved with the optimizer's state."""


@dataclass(frozen=True)
class Group:
    """Terms that share a backward pass: one gradient stands for their weighted sum."""

    name: str
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Rectified:
    """Result of a rectification."""

    gradient: Gradient
    facts: dict[str, float | bool | None] = field(default_factory=dict)
    """Telemetry of the step."""
    norm: float | None = None
    """L2 norm of the gradient, if the rectifier knows it; saves the engine a sweep over memory."""


@dataclass(frozen=True)
class OptimizerStep(ABC):
    """A step the optimizer has just taken, as a rectifier sees it."""

    update: Gradient
    """Difference of the weights after and before the step, weight decay and learning rate included;
    may be overwritten."""
    before: Gradient
    """Weights before the step."""
    lr: float
    """Learning rate of the step."""
    clipped: float
    """Factor by which `train.clip` scaled the rectified gradient; 1 where it did not act."""

    @property
    @abstractmethod
    def betas(self) -> tuple[float, float]:
        """Decay of the optimizer's running mean of gradients and of their squares."""

    @property
    @abstractmethod
    def eps(self) -> float:
        """Addend of the root of the optimizer's mean square."""

    @abstractmethod
    def scale(self) -> Gradient:
        """Returns what the optimizer divided each number of its mean gradient by; a copy."""

    @abstractmethod
    def decay(self) -> Gradient:
        """Returns the part of the update that is weight decay."""


@dataclass(frozen=True)
class Corrected:
    """Result of a correction."""

    update: Gradient | None
    """The update to take in place of the optimizer's; none leaves that as it is."""
    facts: dict[str, float | bool | None] = field(default_factory=dict)
    """Telemetry of the step, beside that of `rectify`."""


@dataclass(frozen=True)
class Audit:
    """A loss to measure along the way on rows that stay the same, without a gradient."""

    term: Term
    rows: int
    """Number of rows of the term's split; all where there are no more."""
    every: int
    """Steps between measurements; the first is before the first step, the last after the last."""


@dataclass(frozen=True)
class Rectifier(ABC):
    """Base class of rectifiers: frozen settings; what changes is in the `RectifierState`.

    A family that weighs its groups by the Gramian of their gradients (MGDA, PCGrad, NashMTL, ...)
    gives each term a group of its own, gets the matrix of inner products from
    `GradientSpace.gramian`, turns it into one weight per group, and returns the weighted sum by
    `GradientSpace.add`: a base class of the family needs only a method from matrix to weights.
    """

    acts: ClassVar[bool] = True
    """Whether it may change a gradient."""

    @property
    def bounds_norm(self) -> bool:
        """Whether this rectifier bounds the gradient's norm itself, in place of `train.clip`."""
        return False

    @property
    def gradients_kept(self) -> int:
        """Number of gradients kept from step to step, for estimates of memory."""
        return 0

    @property
    def corrects(self) -> bool:
        """Whether `correct` is to be called, at the cost of two copies of the trained weights."""
        return type(self).correct is not Rectifier.correct

    def audit(self, terms: tuple[Term, ...]) -> Audit | None:
        """Returns what is to be measured along the way, for `audited`; mostly nothing."""
        return None

    def audited(
        self, loss: float, done: int, total: int, state: RectifierState
    ) -> dict[str, float | bool | None]:
        """Takes note of a measurement; returns telemetry.

        Args:
            loss: The audit's loss, of the weights as they are.
            done: Steps done.
            total: Steps of the whole training.
            state: State, updated in place.
        """
        return {}

    def closing(self, last: Mapping[str, Any]) -> str | None:
        """Returns what a run is to say at its end, given the last step's telemetry, if anything."""
        return None

    @abstractmethod
    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        """Returns which terms are kept apart, and any further terms to take gradients of."""

    @abstractmethod
    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Returns the gradient to step with; may overwrite the gradients it is given.

        Args:
            gradients: One gradient by group name, each of its group's weighted sum.
            terms: Terms of the method, as given to `groups`.
            state: State of earlier steps; updated in place.
            space: Arithmetic of gradients, wherever they are stored.
        """

    def correct(
        self, step: OptimizerStep, state: RectifierState, space: GradientSpace
    ) -> Corrected:
        """Returns the update to take in place of the optimizer's.

        An adaptive optimizer rescales each coordinate, so its step need not keep what `rectify`
        ensured of the gradient; a rectifier that wants it of the step overrides this. Only then
        (see `corrects`) does the engine call it, after the optimizer's step. The optimizer's own
        state is not changed by it.

        Args:
            step: The step just taken.
            state: State, in which `rectify` has left what is needed here.
            space: Arithmetic of gradients and updates, wherever they are stored.
        """
        return Corrected(None)
