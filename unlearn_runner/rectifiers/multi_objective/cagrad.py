"""CAGrad: within a ball round the mean gradient, the step that helps the worse side most.

    max over d of min(<g, d>, <r, d>)  subject to  |d - m| <= c |m|,    m = (g + r) / 2

Source: NeurIPS 2021, arXiv 2110.14048.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Lt

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState, require_solver

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CAGrad(MultiObjective):
    """Steps with the mean gradient, bent towards the side that would gain less.

    Source: TorchJD with CLARABEL; on the Pareto front the step is zero. Needs the extra `moo`.
    """

    c: Annotated[float, Ge(0), Lt(1)] = 0.5
    """Radius of the ball, in lengths of the mean gradient; 0 is the mean itself."""

    def __post_init__(self) -> None:
        require_solver("cagrad", "cvxpy", "clarabel")

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns 1/2 each and the bend."""
        from cvxpy import SolverError
        from torchjd.aggregation import CAGradWeighting

        try:
            return CAGradWeighting(self.c)(gramian), ()
        except (SolverError, TypeError, ValueError):  # it found no weights
            return gramian.new_full((2,), float("nan")), ()
