"""Rectifiers of two sides: the gradient of the forget terms and that of the retain terms."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.methods.base import Term
from unlearn_runner.methods.losses import RetainLoss, retain_loss
from unlearn_runner.models.layer_groups import Scope
from unlearn_runner.rectifiers.base import Group, Rectified, Rectifier, RectifierState

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gradient, GradientSpace, Gramian

FORGET, RETAIN = "forget", "retain"

NOISE = 1e-6
"""What is a distance to the start model (KL, RR) has no gradient where unlearning starts; in
float32 rounding leaves about 1e-8 of the forget gradient's length, which is no direction."""


@dataclass(frozen=True)
class TwoSided(Rectifier):
    """Base class: keeps forget terms and retain terms apart, as the method weighs them.

    A method without a retain term has its risk watched: the gradient decides what of the forget
    gradient stays, and is not itself stepped with (unless the rectifier says so).
    """

    risk: RetainLoss = "nll"
    """Loss that is watched where the method has no retain term: NLL of retain answers, or KL to the
    start model on them."""

    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        """Returns both sides; the forget side has all that is not over retain rows alone."""
        retain = tuple(term for term in terms if term.split == "retain")
        rest = tuple(term for term in terms if term.split != "retain")
        watched = (Term("retain_risk", "retain", retain_loss(self.risk)),)
        return Group(FORGET, rest), Group(RETAIN, retain or watched)

    @staticmethod
    def retain_share(terms: tuple[Term, ...]) -> float:
        """Returns the weight of the retain gradient in the plain sum: 0 if it is only watched."""
        return float(any(term.split == "retain" for term in terms))

    def usable(self, gramian: Gramian, terms: tuple[Term, ...]) -> bool:
        """Returns whether products say anything: all finite, the retain gradient no rounding."""
        retain = self.groups(terms)[1].terms
        if all(term.loss.needs_start_model for term in retain) and is_noise(gramian):
            return False
        return all(math.isfinite(product) for row in gramian for product in row)


@dataclass(frozen=True)
class GramianRectifier(TwoSided):
    """Base class: weighs both sides by their Gramian alone, in each part of a scope by itself."""

    scope: Scope = "whole"
    """Over what inner products are taken: `whole`, layer `group`, or `tensor`."""

    @abstractmethod
    def weights(
        self, part: str, gramian: Gramian, share: float, state: RectifierState
    ) -> tuple[float, float]:
        """Returns the weights of the forget and the retain gradient in the one stepped with.

        Args:
            part: Which part of the scope, for what remembers something of each.
            gramian: Inner products of the forget and the retain gradient, in this order.
            share: Weight of the retain gradient in the plain sum: 1, or 0 if it is only watched.
            state: State of earlier steps; updated in place.
        """

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Returns the weighted sum; where products say nothing, the plain one."""
        forget, retain = gradients[FORGET], gradients[RETAIN]
        share, parts = self.retain_share(terms), space.parts(self.scope)
        gramians = space.gramians(parts, forget, retain)
        plain = (1.0, share)
        chosen = {
            part: self.weights(part, gramian, share, state)
            if self.usable(gramian, terms)
            else plain
            for part, gramian in gramians.items()
        }
        forget = space.scale_parts(parts, forget, {part: w for part, (w, _) in chosen.items()})
        result = space.add_parts(parts, forget, retain, {p: w for p, (_, w) in chosen.items()})
        square = sum(square_of(gramians[part], weights) for part, weights in chosen.items())
        acted = any(weights != plain for weights in chosen.values())
        facts = facts_of(added(gramians), share, square, acted)
        # Where nothing was changed it is measured, to the bits of a run without a rectifier.
        return Rectified(result, facts, math.sqrt(max(square, 0.0)) if acted else None)


def added(gramians: Mapping[str, Gramian]) -> Gramian:
    """Returns the Gramian of the whole: the sum of those of its parts."""
    matrices = list(gramians.values())
    size = range(len(matrices[0]))
    return [[sum(matrix[i][j] for matrix in matrices) for j in size] for i in size]


def square_of(gramian: Gramian, weights: tuple[float, ...]) -> float:
    """Returns the squared norm of a weighted sum of the gradients of a Gramian."""
    size = range(len(weights))
    return sum(weights[i] * weights[j] * gramian[i][j] for i in size for j in size)


def cosine(dot: float, square: float, other: float) -> float | None:
    """Returns a cosine from an inner product and both squared norms; none where it says nothing."""
    lengths = math.sqrt(square * other) if math.isfinite(square * other) else 0.0
    return dot / lengths if lengths else None


def facts_of(
    gramian: Gramian, share: float, square: float, acted: bool
) -> dict[str, float | bool | None]:
    """Returns telemetry of a step: conflict, cosine, both norms, whether and how much was removed.

    Args:
        gramian: Inner products of the forget and the retain gradient over all parameters.
        share: Weight of the retain gradient in the plain sum.
        square: Squared norm of the rectified gradient.
        acted: Whether it is another gradient than the plain sum.
    """
    (forget, dot), (_, retain) = gramian
    plain = square_of(gramian, (1.0, share))
    surviving = math.sqrt(max(square, 0.0) / plain) if acted and plain > 0 else 1.0
    return {
        "objective_norm": math.sqrt(forget),
        "retain_norm": math.sqrt(retain),
        "cosine": cosine(dot, forget, retain),
        "conflict": dot < 0,
        "rectified": acted,
        "surviving_norm": surviving,
    }


def is_noise(gramian: Gramian) -> bool:
    """Returns whether the retain gradient is as short as rounding leaves it; see `NOISE`."""
    return gramian[1][1] <= NOISE**2 * gramian[0][0]
