"""Gradient-rectified unlearning (GRU; ICML 2025, arXiv 2503.09117).

The unlearning gradient g loses the component that would raise the retain risk to first order:
where <g, m> < 0, with m the running mean of the retain risk's gradient,

    g <- g - (<g, m> / <m, m>) m                                  (closest vector with <g, m> >= 0)

One inner product over all trainable parameters, never per layer or tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import RetainLoss, retain_loss
from unlearn_runner.rectifiers.base import Group, Rectified, Rectifier, RectifierState

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace

OBJECTIVE, RISK, MEAN = "objective", "risk", "mean"

KL_NOISE = 1e-6
"""KL to the start model has no gradient where unlearning starts; in float32 rounding leaves about
1e-8 of the objective's, which is no direction to project on."""


@dataclass(frozen=True)
class GRU(Rectifier):
    """Projects the unlearning gradient away from conflict with a smoothed retain gradient.

    Source: the paper's closed form; conventions of `gamma` and `tau` as in the authors' code, which
    their pull request to open-unlearning confirms (spec 1.2). Deviation: arithmetic in the
    gradients' own float32 with inner products in float64, instead of bf16 tests and a copy to the
    CPU. The projection holds for the gradient; AdamW's step need not be orthogonal to m.
    """

    gamma: Annotated[float, Gt(0), Le(1)] = 0.8
    """Weight of the *newest* retain gradient in the running mean m; 1 keeps no memory. m starts at
    zero and is not bias-corrected: the projection does not depend on the length of m."""
    tau: Annotated[float, Gt(0)] | None = None
    """Largest L2 norm of the gradient stepped with, in place of `train.clip`; null leaves it to
    that. The authors' code with tau off does not clip at all: `train.clip=null`."""
    clip: Literal["after", "before"] = "after"
    """Whether tau bounds the rectified gradient (as coded) or the one before rectification."""
    risk: RetainLoss = "nll"
    """What the retain gradient is of: NLL of retain answers, or KL to the start model on them."""
    cos_clip: bool = False
    """Remove a conflict only down to `cos_floor`, leaving the rest of a strong one in place."""
    cos_floor: Annotated[float, Ge(-1), Le(0)] = -0.5
    """The cosine below which `cos_clip` removes no more."""

    @property
    def bounds_norm(self) -> bool:
        """Only with a tau: without one `train.clip` bounds what is stepped with, as elsewhere."""
        return self.tau is not None

    @property
    def gradients_kept(self) -> int:
        """One, the running mean."""
        return 1

    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        """Returns the objective without the retain risk, and the watched risk.

        A retain term of the method that *is* the risk moves to the risk's pass, and `rectify` adds
        its share back: two passes serve both.
        """
        risk, _ = self._risk(terms)
        rest = tuple(term for term in terms if not term.same_loss(risk))
        return Group(OBJECTIVE, rest), Group(RISK, (risk,))

    def _risk(self, terms: tuple[Term, ...]) -> tuple[Term, float]:
        """Returns the watched term, with weight 1, and its weight in the method's objective."""
        loss = retain_loss(self.risk)
        alike = [term for term in terms if term.split == "retain" and term.loss == loss]
        risk = Term("retain_risk", "retain", loss, unit=alike[0].unit if alike else "token")
        return risk, sum(term.weight for term in alike if term.same_loss(risk))

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Smooths the retain gradient, removes the conflict, bounds the norm if there is a tau."""
        objective, risk = gradients[OBJECTIVE], gradients[RISK]
        _, weight = self._risk(terms)
        if weight:
            objective = space.add(objective, risk, weight)
        if MEAN in state and self.gamma < 1:
            mean = space.mix(state[MEAN], risk, self.gamma)
        else:
            mean = space.scale(risk, self.gamma)
        state[MEAN] = mean
        # The only numbers that ranks exchange for GRU.
        (norm_square, dot), (_, square) = space.gramian(objective, mean)
        if self.clip == "before" and self.tau is not None:
            factor = self.tau / (math.sqrt(norm_square) + 1e-6)
            if factor < 1:
                objective = space.scale(objective, factor)
                dot, norm_square = dot * factor, norm_square * factor**2
        if not math.isfinite(square):
            # One overflow would otherwise stay in the mean, and turn GRU off, for good.
            del state[MEAN]
        coefficient = self._coefficient(dot, square, norm_square)
        if coefficient:
            objective = space.add(objective, mean, coefficient)
        norm = None
        if self.clip == "after" and self.tau is not None:
            objective, norm = space.clip(objective, self.tau)
            norm *= min(1.0, self.tau / (norm + 1e-6))
        return Rectified(objective, _facts(dot, square, norm_square, coefficient), norm)

    def _coefficient(self, dot: float, square: float, norm_square: float) -> float:
        """Returns the multiple of m to add to g; 0 where there is no conflict or no direction.

        By <g, m>, <m, m> and <g, g>, in this order.
        """
        if not (math.isfinite(dot) and math.isfinite(square) and square > 0 and dot < 0):
            return 0.0
        if self.risk == "kl" and square <= KL_NOISE**2 * norm_square:
            return 0.0
        if self.cos_clip:
            # max: cosines are negative here, the floor stops the removal of more than its share.
            lengths = math.sqrt(norm_square * square)
            return -max(dot / lengths, self.cos_floor) * math.sqrt(norm_square / square)
        return -dot / square


def _facts(
    dot: float, square: float, norm_square: float, coefficient: float
) -> dict[str, float | bool | None]:
    """Returns telemetry of the step: norms, cosine, whether and how much was removed."""
    lengths = math.sqrt(norm_square * square) if math.isfinite(norm_square * square) else 0.0
    surviving = 1.0
    if coefficient:
        left = norm_square + 2 * coefficient * dot + coefficient**2 * square
        surviving = math.sqrt(max(left, 0.0) / norm_square)
    return {
        "objective_norm": math.sqrt(norm_square),
        "retain_norm": math.sqrt(square),
        "cosine": dot / lengths if lengths else None,
        "rectified": bool(coefficient),
        "surviving_norm": surviving,
    }
