"""GRU of the update: the step that AdamW takes, not the gradient it is given, is rectified.

AdamW scales each number of the gradient by its own factor and adds weight decay, so a gradient that
GRU has made orthogonal to the retain gradient becomes a step that is not. Here the step d itself,
weight decay and learning rate included, loses what would raise the retain risk to first order:
where <d, m> > 0, with m the running mean of the risk's gradient and P the inverse of AdamW's
metric (`rectifiers.metric`),

    d <- d - (<d, m> / <m, P m>) P m            (closest step with <d, m> <= 0 in that metric)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Le

from unlearn_runner.methods.base import Term
from unlearn_runner.rectifiers.base import Corrected, OptimizerStep, Rectified, RectifierState
from unlearn_runner.rectifiers.metric import Metric, steepest
from unlearn_runner.rectifiers.sides import cosine, facts_of
from unlearn_runner.rectifiers.watched import MEAN, RISK, WatchesRisk, advance_mean

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

SQUARE = "mean_square"


@dataclass(frozen=True)
class GRUUpdate(WatchesRisk):
    """Rectifies the optimizer's step with the running mean of the retain gradient.

    Source: ours, after GRU (arXiv 2503.09117), whose guarantee is of plain gradient descent. The
    optimizer sees the objective's own gradient, and its moments are those of a run without a
    rectifier. The weights take the step in their own precision: with weights w in float32 the
    inner product that is left is at most 6e-8 times the sum of |w m|.
    """

    gamma: Annotated[float, Gt(0), Le(1)] = 0.8
    """Weight of the newest retain gradient in its running mean, as in `gru`; 1 keeps no memory."""
    metric: Metric = "optimizer"
    """What "closest" means: the distance that AdamW measures steps in, or the Euclidean one."""

    @property
    def gradients_kept(self) -> int:
        """One, the running mean."""
        return 1

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Returns the objective's gradient as it is, and smooths the risk's."""
        objective = self.objective(gradients, terms, space)
        mean = advance_mean(state, gradients[RISK], self.gamma, space)
        gramian = space.gramian(objective, mean)
        if not math.isfinite(gramian[1][1]):
            del state[MEAN]  # one overflow would otherwise stay in the mean for good
        state[SQUARE] = gramian[1][1]
        facts = facts_of(gramian, 0.0, gramian[0][0], acted=False)
        return Rectified(objective, facts, math.sqrt(gramian[0][0]))

    def correct(
        self, step: OptimizerStep, state: RectifierState, space: GradientSpace
    ) -> Corrected:
        """Removes what of the step would raise the risk; telemetry is of the step, not gradients.

        `rectified` says whether the step was changed, `surviving_norm` what was left of its norm,
        `planned_cosine` and `step_cosine` how the optimizer's step and the one taken lie to m.
        """
        if MEAN not in state:
            return Corrected(None)
        update, mean = step.update, state[MEAN]
        along = steepest(self.metric, step, mean, space)
        dot, square, norm_square = space.dots((update, mean), (along, mean), (update, update))
        mean_square = state[SQUARE]
        planned = cosine(dot, norm_square, mean_square)
        if not (math.isfinite(square) and square > 0 and dot > 0):
            return Corrected(None, {"planned_cosine": planned, "step_cosine": planned})
        update = space.add(update, along, -dot / square)
        after, left = space.dots((update, mean), (update, update))
        facts = {
            "planned_cosine": planned,
            "step_cosine": cosine(after, left, mean_square),
            "rectified": True,
            "surviving_norm": math.sqrt(left / norm_square),
        }
        return Corrected(update, facts)
