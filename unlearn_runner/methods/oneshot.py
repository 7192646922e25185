"""Methods that change the weights in one go: no terms, no loop, nothing to rectify."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.base import Method, Term

if TYPE_CHECKING:
    from unlearn_runner.training.gradients import Gradient, GradientSpace


@dataclass(frozen=True)
class Context:
    """What a one-shot method works with: vectors with one entry per parameter of the model."""

    space: GradientSpace
    """Their arithmetic."""
    vector: Callable[[int], Gradient]
    """The task vector of a part: its fine-tuned weights minus the start model's. Computed anew at
    every call, so that a caller decides how many are held at once."""
    num_parts: int


@dataclass(frozen=True)
class OneShot(Method):
    """Base class of one-shot methods.

    The plan fine-tunes the start model on each of `parts`, by the recipe in `train`, and stores the
    results like any fine-tune; then `run` says how the weights change.
    """

    def terms(self) -> tuple[Term, ...]:
        """Returns nothing: there is no loop."""
        return ()

    @abstractmethod
    def parts(self, forget: Rows) -> tuple[Rows, ...]:
        """Returns the sets of rows that the start model is to be fine-tuned on."""

    @abstractmethod
    def run(self, ctx: Context) -> Gradient:
        """Returns what is added to the start model's weights."""
