"""What a rectifier is: a map from the gradients of terms to the one gradient stepped with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.methods.base import Term

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

RectifierState = dict[str, Any]
"""Gradients a rectifier carries from step to step, by name; saved with the optimizer's state."""


@dataclass(frozen=True)
class Group:
    """Terms that share a backward pass, so that one gradient stands for all of them."""

    name: str
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Rectified:
    """What a rectifier hands back."""

    gradient: Gradient
    facts: dict[str, float | bool | None] = field(default_factory=dict)
    """Telemetry of the step."""
    norm: float | None = None
    """L2 norm of the gradient where the rectifier knows it; it saves a sweep over memory."""


@dataclass(frozen=True)
class Rectifier(ABC):
    """Base class of rectifiers: frozen settings; state lives in what it is handed."""

    acts: ClassVar[bool] = True
    """Whether it may change a gradient; what is said of rectifying holds for it then."""

    @property
    def bounds_norm(self) -> bool:
        """Whether this rectifier bounds the gradient's norm itself, in place of `train.clip`."""
        return False

    @property
    def gradients_kept(self) -> int:
        """How many gradients it remembers from step to step, for estimates of memory."""
        return 0

    @abstractmethod
    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        """Returns which terms are kept apart, and any further terms to be watched."""

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
            terms: The method's terms, as `groups` saw them.
            state: What earlier steps left; updated in place.
            space: The arithmetic of gradients, wherever they are stored.
        """
