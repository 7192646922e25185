"""Aligned-MTL: the sum of the orthogonal frame nearest to both gradients (CVPR 2023).

    B = s sum_i v_i v_i^T / sqrt(l_i),    weights B (1, 1)

with l and v the eigenvalues and vectors of the Gramian, and s one singular value for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AlignedMTL(MultiObjective):
    """Rotates and stretches the gradients least until they are orthogonal and of one length.

    Deviation from TorchJD: preference 1 for each side, not 1/2: gradients that are orthogonal and
    of one length already give the plain sum.
    """

    scale: Literal["min", "median", "rmse"] = "min"
    """Their common length s: root of the smallest eigenvalue (the paper), the median (of two, the
    smaller one), or the mean (the authors' code)."""

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the weights of the sum of the frame."""
        from torchjd.aggregation import AlignedMTLWeighting

        return AlignedMTLWeighting(gramian.new_ones(2), self.scale)(gramian), ()
