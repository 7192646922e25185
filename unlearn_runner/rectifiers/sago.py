"""SAGO: the sign of each number decides which side it is stepped with (ACL 2026, arXiv 2604.14808).

Where the forget gradient g and the retain gradient r have opposite signs, r; elsewhere g alone, or
g + r. Zero conflicts with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unlearn_runner.methods.base import Term
from unlearn_runner.rectifiers.base import Rectified, RectifierState
from unlearn_runner.rectifiers.sides import FORGET, RETAIN, TwoSided, facts_of

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.models.gradients import Gradient, GradientSpace


@dataclass(frozen=True)
class SAGO(TwoSided):
    """Chooses between the sides number by number.

    Source: SAGO's repository, strategies `sago` and `sago_prefer_retain`.
    """

    where_agreed: Literal["forget", "both"] = "forget"
    """What is stepped with where signs agree: the forget gradient alone (`sago`), or the sum of
    both (`sago_prefer_retain`)."""

    def rectify(
        self,
        gradients: Mapping[str, Gradient],
        terms: tuple[Term, ...],
        state: RectifierState,
        space: GradientSpace,
    ) -> Rectified:
        """Returns the chosen numbers; one that is only watched is not stepped with: 0 there."""
        forget, retain = gradients[FORGET], gradients[RETAIN]
        share = self.retain_share(terms)
        gramian = space.gramian(forget, retain)
        if not self.usable(gramian, terms):
            facts = facts_of(gramian, share, math.nan, False) | {"opposed": 0.0}
            return Rectified(space.add(forget, retain, share) if share else forget, facts)
        opposed = space.share(_opposed, forget, retain)

        def choose(g: Tensor, r: Tensor) -> Tensor:
            agreed = g + share * r if self.where_agreed == "both" else g
            return (share * r).where(_opposed(g, r), agreed)

        result = space.elementwise(choose, forget, retain)
        square = space.dots((result, result))[0]
        # Where nothing is opposed, `forget` still leaves out the retain gradient.
        left_out = self.where_agreed == "forget" and share * gramian[1][1] > 0
        facts = facts_of(gramian, share, square, opposed > 0 or left_out)
        return Rectified(result, facts | {"opposed": opposed}, math.sqrt(square))


def _opposed(g: Tensor, r: Tensor) -> Tensor:
    """Returns where signs are opposite; by signs, for a product of small numbers may be 0."""
    return g.sign() * r.sign() < 0
