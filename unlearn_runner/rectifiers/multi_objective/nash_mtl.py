"""Nash-MTL: the step both sides would agree on in a bargain (ICML 2022, arXiv 2202.01017).

G w = 1 / w,    G the Gramian:  the product of both sides' progress is largest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState, unit_sides

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NashMTL(MultiObjective):
    """Bargains between both sides, each with its gradient at length 1.

    Two sides need no solver: of unit gradients with the cosine c the bargain is 1 / root(1 + c) for
    each. Deviations from the published code, which solves for any number of gradients as they come:
    no bound on the norm of its own, `train.clip` has one; the step is as long as the gradients are.
    Opposite gradients have no bargain, and the plain sum is stepped with.
    """

    every: Annotated[int, Ge(1), Le(1_000_000)] = 1
    """Steps between bargains; in between the weights of gradients of length 1 stay."""

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the bargain; remembers it and the number of steps."""
        matrix, lengths = unit_sides(gramian)
        scales = lengths.square().mean().sqrt() / lengths
        step, weight = carried or (0.0, 1.0)
        if step % self.every == 0:
            weight = float((1 + matrix[0, 1]).rsqrt())
        return weight * scales, (step + 1, weight)
