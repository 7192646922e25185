"""GradVac: gradients are turned towards each other, to the cosine they had so far (ICLR 2021).

Where the cosine c of g and r is below t, their cosine so far,

    g + w r,    w = |g| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|r| sqrt(1 - t^2))

then r likewise, and both are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GradVac(MultiObjective):
    """Acts below an expected cosine, not only below zero; the plain sum above it.

    Source: TorchJD (arXiv 2010.05874). With two objectives nothing is left of its random order.
    """

    beta: Annotated[float, Ge(0), Le(1)] = 0.5
    """Weight of the newest cosine in the running mean, which starts at 0; 0 is UPGrad."""

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the turned gradients' weights; remembers the cosine expected of each pair."""
        from torchjd.aggregation import GradVacWeighting

        weighting: Any = GradVacWeighting(self.beta)
        if carried:
            # TorchJD has no setter for its state.
            weighting._phi_t = gramian.new_tensor(carried).reshape(2, 2)
            weighting._state_key = (2, gramian.dtype)
        weights = weighting(gramian)
        return weights, tuple(weighting._phi_t.reshape(-1).tolist())
