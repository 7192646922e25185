"""IMTL-G: a step with equal projections on both gradients (ICLR 2021).

<d, g> / |g| = <d, r> / |r|,    weights |r| / (|g| + |r|) and |g| / (|g| + |r|)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState, unit_sides

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class IMTLG(MultiObjective):
    """Steps along the bisector of both gradients. Weights sum to 1; 0 where they are opposite.

    Source: TorchJD, given the Gramian of gradients of length 1: of opposite ones its pseudo-inverse
    would otherwise climb on the shorter one's side.
    """

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the weights, each in proportion to the other side's norm."""
        from torchjd.aggregation import IMTLGWeighting

        matrix, lengths = unit_sides(gramian)
        weights = IMTLGWeighting()(matrix) / lengths
        total = float(weights.sum())
        return weights / total if total else weights, ()
