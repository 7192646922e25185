"""DualProj: the plain sum, projected to where it opposes neither gradient (GEM, NeurIPS 2017).

min over d of |d - (g + r)|  subject to  <d, g> >= 0, <d, r> >= 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState
from unlearn_runner.rectifiers.multi_objective.upgrad import project_weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DualProj(MultiObjective):
    """Steps with what is nearest to the plain sum; that itself, where it opposes neither.

    Deviations from TorchJD: as `UPGrad`.
    """

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the projection's weights."""
        from torchjd.aggregation import DualProjWeighting

        ones = gramian.new_ones(2)
        return DualProjWeighting(ones, projector=project_weights)(gramian), ()  # pyright: ignore
