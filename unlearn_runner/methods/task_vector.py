"""Task vector negation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.data.rows import Rows
from unlearn_runner.methods.base import Positive
from unlearn_runner.methods.one_shot import Context, OneShot

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient


@dataclass(frozen=True)
class TaskVector(OneShot):
    """Learn the forget rows even better, then go the same way backwards.

    theta_u = theta - alpha (theta_ft - theta), theta_ft fine-tuned on the forget rows from theta.
    Source: Ilharco et al. 2023; a baseline of MUSE.
    """

    alpha: Positive = 1.0
    """How far back, in lengths of the way there; found on validation data in the paper."""

    def finetunes(self, forget: Rows) -> tuple[Rows, ...]:
        """Returns the forget rows."""
        return (forget,)

    def run(self, ctx: Context) -> Gradient:
        """Returns the negated vector."""
        return ctx.space.scale(ctx.vector(0), -self.alpha)
