"""Random weights of both sides, anew each step (arXiv 2111.10603): a litmus test for the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RandomWeights(MultiObjective):
    """Weighs the sides by the softmax of two standard normal draws, whatever their gradients.

    Each draw is a function of the seed and the step; parts of a scope share it. Weights sum to 1.
    """

    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Of the draws; the option takes the run's."""

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the draw of this step; remembers the number of steps."""
        import numpy as np
        import torch
        from torchjd.aggregation import RandomWeighting

        (step,) = carried or (0.0,)
        draws = np.random.SeedSequence([self.seed, int(step)]).generate_state(1)
        torch.manual_seed(int(draws[0]))  # of a fork: the run's own draws go on as they would
        return RandomWeighting()(gramian), (step + 1,)
