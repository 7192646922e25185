"""ConFIG: the bisector, as long as what both gradients have along it (arXiv 2408.11104).

d = (<g, e> + <r, e>) e,    e the direction of equal cosine to g and r
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState, square_root

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ConFIG(MultiObjective):
    """Steps in IMTL-G's direction, longer the less the gradients conflict.

    Source: TorchJD's aggregator, applied to a square root of the Gramian in place of the gradients.
    """

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the weights of both sides in d."""
        import torch
        from torchjd.aggregation import ConFIG as Aggregator

        rows = square_root(gramian)
        direction = Aggregator()(rows)
        return torch.linalg.pinv(rows.T) @ direction, ()
