"""No rectification: all terms in one group, whose gradient is stepped with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn_runner.methods.base import Term
from unlearn_runner.rectifiers.base import Group, Rectified, Rectifier, RectifierState

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace


@dataclass(frozen=True)
class NoRectifier(Rectifier):
    """Leaves the gradient of the objective as it is: one backward pass per term, one buffer."""

    acts: ClassVar[bool] = False

    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        """Returns one group of all terms."""
        return (Group("objective", terms),)

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Returns the gradient of the objective."""
        return Rectified(gradients["objective"])
