"""Gradient-rectified unlearning (GRU; ICML 2025, arXiv 2503.09117).

The unlearning gradient g loses the component that would raise the retain risk to first order:
where <g, m> < 0, with m the running mean of the retain risk's gradient,

    g <- g - (<g, m> / <m, m>) m                                  (closest vector with <g, m> >= 0)

One inner product over all trainable parameters, unless `scope` says otherwise. Auxiliary terms are
added to what is left, so that they are neither projected nor smoothed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from unlearn_runner.methods.base import NonNegative, Term
from unlearn_runner.methods.losses import RetainLoss
from unlearn_runner.models.layer_groups import Scope
from unlearn_runner.rectifiers.base import (
    Corrected,
    Group,
    OptimizerStep,
    Rectified,
    RectifierState,
)
from unlearn_runner.rectifiers.sides import added, cosine, facts_of, is_noise, square_of
from unlearn_runner.rectifiers.watched import (
    MEAN,
    RISK,
    WatchesRisk,
    advance_mean,
    on_retain_rows,
)

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace, Gramian

STEPS = "steps"


@dataclass(frozen=True)
class GRU(WatchesRisk):
    """Projects the unlearning gradient away from conflict with a smoothed retain gradient.

    Source: the paper's closed form; conventions of `gamma` and `tau` as in the authors' code, which
    their pull request to open-unlearning confirms (spec 1.2). Deviation: arithmetic in the
    gradients' own float32 with inner products in float64, instead of bf16 tests and a copy to the
    CPU. The projection holds for the gradient; AdamW's step need not be orthogonal to m.
    """

    gamma: Annotated[float, Gt(0), Le(1)] = 0.8
    """Weight of the *newest* retain gradient in the running mean m; 1 keeps no memory. m starts at
    zero: the projection does not depend on the length of m."""
    tau: Annotated[float, Gt(0)] | None = None
    """Largest L2 norm of the gradient stepped with, in place of `train.clip`; null leaves it to
    that. The authors' code with tau off does not clip at all: `train.clip=null`."""
    clip: Literal["after", "before"] = "after"
    """Whether tau bounds the rectified gradient, auxiliary terms included (as coded), or the one
    before rectification."""
    cos_clip: bool = False
    """Remove a conflict only down to `cos_floor`, leaving the rest of a strong one in place."""
    cos_floor: Annotated[float, Ge(-1), Le(0)] = -0.5
    """The cosine below which `cos_clip` removes no more."""
    scope: Scope = "whole"
    """Over what inner products are taken: `whole` (the paper), layer `group`, or `tensor`. Of parts
    each is projected by itself, and none conflicts with its part of m."""
    aux_kl: NonNegative = 0.0
    """Weight of KL to the start model on the retain rows, added after the projection; the authors'
    `+KL` is 1. Costs a pass of its own, unless it is the risk."""
    aux_ce: NonNegative = 0.0
    """Weight of the retain NLL, added after the projection: this step's gradient, not the mean; the
    authors' `+ce` is 1. Costs a pass of its own, unless it is the risk."""
    bias_correction: bool = False
    """Report `retain_norm` of m / (1 - (1 - gamma)^t) after t steps, an unbiased mean. Changes that
    number alone: no projection depends on the length of m, and nothing else reads it."""
    measure_step: bool = False
    """Report `step_cosine`, the cosine of the step that AdamW takes and m: above zero the step
    raises the risk to first order, although the gradient does not. Costs two copies of the weights;
    `gru_update` keeps the step from it."""

    @property
    def bounds_norm(self) -> bool:
        """Only with a tau: without one `train.clip` bounds what is stepped with, as elsewhere."""
        return self.tau is not None

    @property
    def gradients_kept(self) -> int:
        """One, the running mean."""
        return 1

    @property
    def corrects(self) -> bool:
        """Only to measure the step."""
        return self.measure_step or type(self).correct is not GRU.correct

    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        """Returns the objective without the retain risk, the watched risk, and auxiliary terms.

        An auxiliary term that is the risk needs no pass of its own.
        """
        risk = self.watched(terms)
        auxiliary = (
            Group(term.name, (term,))
            for term, _ in self._auxiliary(terms)
            if not term.same_loss(risk)
        )
        return *super().groups(terms), *auxiliary

    def _auxiliary(self, terms: tuple[Term, ...]) -> list[tuple[Term, float]]:
        """Returns the terms added after projection, each with weight 1, and their weights."""
        wanted: list[tuple[str, RetainLoss, float]] = [
            ("aux_kl", "kl", self.aux_kl),
            ("aux_ce", "nll", self.aux_ce),
        ]
        return [(on_retain_rows(name, loss, terms), w) for name, loss, w in wanted if w]

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Smooths the retain gradient, removes the conflict, adds, bounds the norm if asked to."""
        objective, risk = self.objective(gradients, terms, space), gradients[RISK]
        watched = self.watched(terms)
        auxiliary = self._auxiliary(terms)
        reused = any(term.same_loss(watched) for term, _ in auxiliary)
        kept = space.copy(risk) if reused else risk
        mean = advance_mean(state, kept, self.gamma, space)
        if self.bias_correction:
            state[STEPS] = state.get(STEPS, 0) + 1
        objective, facts, length = self._projected(objective, mean, space)
        if self.bias_correction:
            facts["retain_norm"] = length / (1 - (1 - self.gamma) ** state[STEPS])
        if not math.isfinite(length):
            # One overflow would otherwise stay in the mean, and turn GRU off, for good.
            del state[MEAN]
            state.pop(STEPS, None)
        for term, weight in auxiliary:
            now = risk if term.same_loss(watched) else gradients[term.name]
            objective = space.add(objective, now, weight)
        norm = None
        if self.clip == "after" and self.tau is not None:
            objective, norm = space.clip(objective, self.tau)
            norm *= min(1.0, self.tau / (norm + 1e-6))
        return Rectified(objective, facts, norm)

    def correct(
        self, step: OptimizerStep, state: RectifierState, space: GradientSpace
    ) -> Corrected:
        """Leaves the step as it is, and reports its cosine with the mean."""
        if MEAN not in state:
            return Corrected(None)
        update, mean = step.update, state[MEAN]
        products = space.dots((update, mean), (update, update), (mean, mean))
        return Corrected(None, {"step_cosine": cosine(*products)})

    def _projected(
        self, objective: Gradient, mean: Gradient, space: GradientSpace
    ) -> tuple[Gradient, dict[str, float | bool | None], float]:
        """Returns the objective's gradient without conflict, telemetry, and the mean's length."""
        parts = space.parts(self.scope)
        # The only numbers that ranks exchange for GRU.
        gramians = space.gramians(parts, objective, mean)
        if self.clip == "before" and self.tau is not None:
            factor = self.tau / (math.sqrt(added(gramians)[0][0]) + 1e-6)
            if factor < 1:
                objective = space.scale(objective, factor)
                gramians = {part: _shortened(g, factor) for part, g in gramians.items()}
        coefficients = {part: self._coefficient(gramian) for part, gramian in gramians.items()}
        objective = space.add_parts(parts, objective, mean, coefficients)
        square = sum(square_of(gramians[part], (1.0, c)) for part, c in coefficients.items())
        total = added(gramians)
        facts = facts_of(total, 0.0, square, any(coefficients.values()))
        return objective, facts, math.sqrt(total[1][1])

    def _coefficient(self, gramian: Gramian) -> float:
        """Returns the multiple of m to add to g; 0 where there is no conflict or no direction.

        Args:
            gramian: Inner products of g and m, in this order.
        """
        (norm_square, dot), (_, square) = gramian
        if not (math.isfinite(dot) and math.isfinite(square) and square > 0 and dot < 0):
            return 0.0
        if self.risk == "kl" and is_noise(gramian):
            return 0.0
        if self.cos_clip:
            # max: cosines are negative here, the floor stops the removal of more than its share.
            lengths = math.sqrt(norm_square * square)
            return -max(dot / lengths, self.cos_floor) * math.sqrt(norm_square / square)
        return -dot / square


def _shortened(gramian: Gramian, factor: float) -> Gramian:
    """Returns the Gramian of g and m when g is multiplied by a factor."""
    (norm_square, dot), (_, square) = gramian
    return [[norm_square * factor**2, dot * factor], [dot * factor, square]]
