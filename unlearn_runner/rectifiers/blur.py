"""BLUR: the retain gradient gives way to the forget gradient, whatever the sign of their product.

    g + r - (<r, g> / <g, g>) g

Source: arXiv 2506.08164, as the code of SAGO (ACL 2026, arXiv 2604.14808) compares with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.rectifiers.sides import GramianRectifier

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gramian
    from unlearn_runner.rectifiers.base import RectifierState


@dataclass(frozen=True)
class BLUR(GramianRectifier):
    """Steps with the forget gradient and what of the retain gradient is orthogonal to it.

    Forgetting has priority: to first order the retain term neither helps nor hinders it. Without a
    retain term of the method's own nothing is changed.
    """

    def weights(
        self, part: str, gramian: Gramian, share: float, state: RectifierState
    ) -> tuple[float, float]:
        """Returns the forget gradient's weight less the retain one's component along it."""
        (square, dot), _ = gramian
        return 1.0 - (share * dot / square if square > 0 else 0.0), share
