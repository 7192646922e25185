"""Methods that change the weights in one go: no terms, no loop, nothing to rectify."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn_runner.methods.base import Method, Term

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace


@dataclass(frozen=True)
class Context:
    """Tools of a one-shot method: vectors with one entry per parameter of the model."""

    space: GradientSpace
    """Their arithmetic."""
    vector: Callable[[int], Gradient]
    """The task vector of a fine-tune: its weights minus the start model's. Computed anew at
    every call, so that a caller decides how many are held at once."""


@dataclass(frozen=True)
class OneShot(Method):
    """Base class of one-shot methods.

    The plan fine-tunes the start model on each set of rows that `finetunes` returns, by the recipe
    in `train`, and stores the results like any fine-tune; then `run` says how the weights change.
    """

    one_shot: ClassVar[bool] = True

    def terms(self) -> tuple[Term, ...]:
        """Returns nothing: there is no loop."""
        return ()

    @abstractmethod
    def run(self, ctx: Context) -> Gradient:
        """Returns what is added to the start model's weights."""
