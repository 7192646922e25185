"""Nash-MTL: the step both sides would agree on in a bargain (ICML 2022, arXiv 2202.01017).

G w = 1 / w,    G the Gramian:  the product of both sides' progress is largest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from unlearn_runner.rectifiers.multi_objective.base import (
    MultiObjective,
    PartState,
    require_solver,
    square_root,
    unit_sides,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NashMTL(MultiObjective):
    """Solves for the bargain from where the step before ended. Needs the extra `moo`.

    Source: TorchJD with ECOS, which takes the gradients: here a square root of their Gramian, and
    of gradients of length 1, of which the solution is the same up to those lengths. Of others the
    solver may not leave its start, the plain sum, just where they conflict. Deviations: no bound on
    the norm of its own, `train.clip` has one; the step is as long as the gradients are.
    """

    every: Annotated[int, Ge(1), Le(1_000_000)] = 1
    """Steps between solutions; in between the weights of gradients of length 1 stay."""
    iterations: Annotated[int, Ge(1), Le(10_000)] = 20
    """Largest number of convex problems solved for one solution."""

    def __post_init__(self) -> None:
        require_solver("nash_mtl", "cvxpy", "ecos")

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the bargain; remembers it and the number of steps."""
        import warnings

        import numpy as np
        from torchjd.aggregation import NashMTL as Aggregator

        matrix, lengths = unit_sides(gramian)
        scales = lengths.square().mean().sqrt() / lengths
        step, *before = carried or (0.0, 1.0, 1.0)
        if step % self.every:
            return gramian.new_tensor(before) * scales, (step + 1, *before)
        weighting = Aggregator(2, 0.0, 1, self.iterations).weighting
        weighting.prvs_alpha = np.array(before)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of solvers, whose failure leaves the weights
            found = weighting(square_root(matrix))
        return found * scales, (step + 1, *found.tolist())
