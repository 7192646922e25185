"""MGDA: the shortest convex combination of both gradients (arXiv 1810.04650).

min over a in [0, 1] of |a g + (1 - a) r|
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MGDA(MultiObjective):
    """Steps with the point of the segment from g to r that is nearest to zero.

    No side loses to first order; what both gain is equal, unless one gradient alone is shortest.
    Weights sum to 1. Where a gradient is much shorter than the other it is nearly all of the step.

    Source: Frank-Wolfe solver of TorchJD, exact after one step for two objectives.
    """

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns a and 1 - a."""
        from torchjd.aggregation import MGDAWeighting

        return MGDAWeighting()(gramian), ()
