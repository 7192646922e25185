"""PiSSA: LoRA that begins at the principal singular directions of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn_runner.models.adapters.residual import ResidualLoRA, weighted_factors

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PiSSA(ResidualLoRA):
    """A and B of the truncated SVD of W, beside the residual (Meng et al. 2024).

    B = U sqrt(S / s) and A = sqrt(S / s) V^T, by an exact SVD of ours. It is FILA with equal row
    weights. The paper has s = 1, that is alpha = rank.
    """

    alpha_per_rank: ClassVar[float] = 1.0

    def factors(
        self, weight: Tensor, scaling: float, row_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns A and B, with all rows weighing alike."""
        return weighted_factors(weight, self.rank, scaling)
