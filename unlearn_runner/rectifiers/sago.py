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

        def choose(g: Tensor, r: Tensor) -> Tensor:
            agreed = g + share * r if self.where_agreed == "both" else g
            return (share * r).where(g.sign() * r.sign() < 0, agreed)

        result = space.elementwise(choose, forget, retain)
        square = space.dots((result, result))[0]
        same = self.where_agreed == "both" or not share
        acted = square != (gramian[0][0] if same else math.nan)
        return Rectified(result, facts_of(gramian, share, square, acted))
