"""PCGrad, asymmetric: the forget gradient loses what conflicts with the retain gradient.

    g - min(0, <g, r> / <r, r>) r + r

Sources: gradient surgery (NeurIPS 2020, arXiv 2001.06782), here with one direction of projection,
as the code of SAGO (ACL 2026, arXiv 2604.14808) has it for unlearning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.rectifiers.sides import GramianRectifier

if TYPE_CHECKING:
    from unlearn_runner.models.gradients import Gramian
    from unlearn_runner.rectifiers.base import RectifierState


@dataclass(frozen=True)
class PCGrad(GramianRectifier):
    """Projects the forget gradient, and adds the retain gradient as the method weighs it.

    Source: SAGO's repository, strategies `pcgrad_global` (`scope=whole`) and `pcgrad`
    (`scope=tensor`). Deviation: no 1e-10 in the denominator; a retain gradient of zero projects
    nothing.
    """

    def weights(
        self, part: str, gramian: Gramian, share: float, state: RectifierState
    ) -> tuple[float, float]:
        """Returns 1 for the forget gradient; what is removed is a multiple of the retain one."""
        dot, square = gramian[0][1], gramian[1][1]
        removed = -dot / square if dot < 0 and square > 0 else 0.0
        return 1.0, share + removed
