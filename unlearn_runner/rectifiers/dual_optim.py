"""DualOptim: forget and retain gradients have moments of their own (arXiv 2504.15827).

    w <- w - lr (a m_f / (sqrt(v_f) + eps) + b m_r / (sqrt(v_r) + eps)) - lr * weight_decay * w

with bias-corrected moments m, v of the forget gradient (f) and the retain gradient (r).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.methods.base import NonNegative, Term
from unlearn_runner.rectifiers.base import Corrected, OptimizerStep, Rectified, RectifierState
from unlearn_runner.rectifiers.sides import FORGET, RETAIN, TwoSided, facts_of

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

COUNT = "count"
_SIDES = (FORGET, RETAIN)


@dataclass(frozen=True)
class DualOptim(TwoSided):
    """Replaces AdamW's step by the sum of two, each with moments of one side's gradient.

    Deviation: the paper's code alternates between steps on forget rows and on retain rows; here
    both are taken at once, so that a run has as many steps with it as without. AdamW's step does
    not depend on a gradient's scale, so the weight of the method's retain term does not act; the
    fields below take its place. `train.clip` scales both gradients as it scales their sum. A method
    without a retain term has one pair of moments, and its steps are AdamW's own.
    """

    forget: NonNegative = 1.0
    """Weight of the forget side's step (a)."""
    retain: NonNegative = 1.0
    """Weight of the retain side's step (b)."""

    @property
    def gradients_kept(self) -> int:
        """Two moments of each side, and the gradients until the step is taken."""
        return 6

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Returns the plain sum, and leaves both gradients for `correct`."""
        share = self.retain_share(terms)
        gramian = space.gramian(*(gradients[side] for side in _SIDES))
        for side in _SIDES:
            state[f"{side}_gradient"] = gradients[side]
        plain = space.copy(gradients[FORGET])
        if share:
            plain = space.add(plain, gradients[RETAIN])
        else:
            del state[f"{RETAIN}_gradient"]
        facts = facts_of(gramian, share, 0.0, acted=False)
        return Rectified(plain, facts)

    def correct(
        self, step: OptimizerStep, state: RectifierState, space: GradientSpace
    ) -> Corrected:
        """Returns the sum of both sides' steps and the weight decay."""
        count = state[COUNT] = state.get(COUNT, 0) + 1
        (before,) = space.dots((step.update, step.update))
        update = step.decay()
        for side, weight in ((FORGET, self.forget), (RETAIN, self.retain)):
            gradient = state.pop(f"{side}_gradient", None)
            if gradient is not None:
                gradient = space.scale(gradient, step.clipped)
                direction = _direction(side, gradient, count, step, state, space)
                update = space.add(update, direction, -step.lr * weight)
        (after,) = space.dots((update, update))
        changed = (after / before) ** 0.5 if before > 0 else 1.0
        return Corrected(update, {"rectified": True, "surviving_norm": changed})


def _direction(
    side: str,
    gradient: Gradient,
    count: int,
    step: OptimizerStep,
    state: RectifierState,
    space: GradientSpace,
) -> Gradient:
    """Updates one side's moments; returns their bias-corrected quotient."""
    square = space.multiply(space.copy(gradient), gradient)
    for name, new, beta in zip(("mean", "square"), (gradient, square), step.betas, strict=True):
        key = f"{side}_{name}"
        old = state.get(key)
        state[key] = space.scale(new, 1 - beta) if old is None else space.mix(old, new, 1 - beta)
    first, second = (1 - beta**count for beta in step.betas)
    eps = step.eps
    return space.elementwise(
        lambda mean, square: (mean / first) / ((square / second).sqrt() + eps),
        space.copy(state[f"{side}_mean"]),
        state[f"{side}_square"],
    )
