"""OrthoGrad / geometric unlearning (GU): steps orthogonal to the last retain gradients.

The step d that AdamW takes loses its projection, in AdamW's metric, on the span of the last k
gradients r_1 ... r_k of the retain risk:

    d <- d - P R c,     (R^T P R) c = R^T d

so that <d, r_i> = 0 for each of them; P is the inverse of that metric (`rectifiers.metric`).
Source: arXiv 2511.17100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from unlearn_runner.methods.base import Term
from unlearn_runner.rectifiers.base import Corrected, OptimizerStep, Rectified, RectifierState
from unlearn_runner.rectifiers.metric import Metric, inverse_metric, times
from unlearn_runner.rectifiers.sides import facts_of
from unlearn_runner.rectifiers.watched import RISK, WatchesRisk

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

COLLINEAR = 1e-12
"""Relative size below which an eigenvalue of R^T P R is taken for rounding."""


@dataclass(frozen=True)
class OrthoGrad(WatchesRisk):
    """Removes from the optimizer's step all that lies in the span of recent retain gradients.

    A step is changed whether it would raise the retain risk or lower it. A retain term of the
    method's own is in the objective, and so loses the same part.
    """

    history: Annotated[int, Ge(1), Le(64)] = 4
    """How many retain gradients span what is removed; each is kept in memory."""
    metric: Metric = "optimizer"
    """What orthogonal means: in the distance that AdamW measures steps in, or the Euclidean one."""

    @property
    def gradients_kept(self) -> int:
        """One for each step of the history."""
        return self.history

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Returns the objective's gradient as it is, and remembers the risk's, newest first."""
        objective = self.objective(gradients, terms, space)
        gramian = space.gramian(objective, gradients[RISK])
        if math.isfinite(gramian[1][1]) and gramian[1][1] > 0:
            kept = [gradients[RISK], *_history(state)][: self.history]
            state.update({str(age): gradient for age, gradient in enumerate(kept)})
        return Rectified(objective, facts_of(gramian, 0.0, gramian[0][0], acted=False))

    def correct(
        self, step: OptimizerStep, state: RectifierState, space: GradientSpace
    ) -> Corrected:
        """Removes the projection on the span; `surviving_norm` is of the step."""
        import torch

        span, update = _history(state), step.update
        if not span:
            return Corrected(None)
        inverse = inverse_metric(self.metric, step, span, space)
        rows, dots = [], []
        for gradient in span:
            along = times(inverse, gradient, space)
            *row, dot = space.dots(*((along, other) for other in span), (update, gradient))
            rows.append(row)
            dots.append(dot)
        matrix = torch.tensor(rows, dtype=torch.float64)
        solved = torch.linalg.pinv(matrix, rtol=COLLINEAR, hermitian=True)
        weights = (solved @ torch.tensor(dots, dtype=torch.float64)).tolist()
        (before,) = space.dots((update, update))
        for gradient, weight in zip(span, weights, strict=True):
            update = space.add(update, times(inverse, gradient, space), -weight)
        (left,) = space.dots((update, update))
        surviving = math.sqrt(left / before) if before > 0 else 1.0
        return Corrected(update, {"rectified": any(dots), "surviving_norm": surviving})


def _history(state: RectifierState) -> list[Gradient]:
    """Returns the remembered gradients, newest first."""
    return [state[str(age)] for age in range(len(state))]
