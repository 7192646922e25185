"""FairGrad: alpha-fair shares of progress (ICML 2024, arXiv 2402.15638).

G w = w^(-1 / alpha),    G the Gramian
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FairGrad(MultiObjective):
    """Chooses weights so that each side's progress is a power of its weight.

    Source: TorchJD, by scipy's least squares. Deviation: the Gramian is divided by its trace first,
    or the step's length would not depend on that of the gradients.
    """

    alpha: Annotated[float, Ge(0), Le(100)] = 2.0
    """Fairness: 0 is the mean of both, 1 proportional (the bargain of `NashMTL`), 2 the least
    potential delay, large the best for the worse side."""

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the solution w."""
        import numpy as np
        from torchjd.aggregation import FairGradWeighting

        with np.errstate(all="ignore"):
            return FairGradWeighting(self.alpha)(gramian), ()
