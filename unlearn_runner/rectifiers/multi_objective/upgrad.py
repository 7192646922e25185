"""UPGrad: each gradient is rid of what opposes the other one, then both are added.

    d = g - min(0, <g, r> / <r, r>) r  +  r - min(0, <g, r> / <g, g>) g

Source: Jacobian descent (arXiv 2406.16232). Of two objectives it is PCGrad in its symmetric form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class UPGrad(MultiObjective):
    """Projects both gradients on the dual cone of both; the plain sum where nothing conflicts.

    No side loses to first order. Deviations from TorchJD: preference 1 for each side, not 1/2, so
    that the method's own weights stand; and its dual cone of two is solved in closed form, exactly
    and without a solver of quadratic programs.
    """

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the sum of both projections' weights."""
        from torchjd.aggregation import UPGradWeighting

        ones = gramian.new_ones(2)
        return UPGradWeighting(ones, projector=project_weights)(gramian), ()  # pyright: ignore


def project_weights(wanted: Tensor, gramian: Tensor) -> Tensor:
    """Returns weights v >= u of the shortest vector: the projection on the dual cone of two.

    With u >= 0 at most one gradient has a negative product with the vector of weights u; its own
    weight rises until the product is zero.

    Args:
        wanted: Weights u of vectors to project, [..., 2].
        gramian: Inner products, [2, 2].
    """
    found = wanted.clone()
    products = wanted @ gramian
    for i, j in ((0, 1), (1, 0)):
        raised = -gramian[i, j] * wanted[..., j] / gramian[i, i]
        found[..., i] = raised.where(products[..., i] < 0, wanted[..., i])
    return found
