"""PCD: forgetting first, with a share of its own progress kept for retention (TMLR 2026).

    d = argmin |d - g'|^2  subject to  <r', d> >= tau <r', r'>,    then as long as g

with g' and r' the gradients over the root of a running mean of their squared norms.
Source: priority-constrained descent, arXiv 2606.29521.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Le, Lt

from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, PartState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PCD(MultiObjective):
    """Follows the forget gradient (the primary) as closely as retention (the secondary) allows.

    The retain gradient is a bound, not a part of the sum: where forgetting gives it its share
    anyway, the forget gradient alone is stepped with. So the weight of a method's retain term does
    not matter, up to `eps`.

    Source: TorchJD, whose solver is exact.
    """

    tau: Annotated[float, Ge(0), Le(1)] = 0.02
    """Share of the first-order progress along its own gradient that retention must keep."""
    beta: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Weight of the earlier squared norms in their running mean, which is bias-corrected."""
    eps: Annotated[float, Ge(0)] = 1e-8
    """Addend of the running mean before its root is taken."""

    by_trace: ClassVar[bool] = False

    def solve(self, gramian: Tensor, carried: PartState) -> tuple[Tensor, PartState]:
        """Returns the weights; remembers both running means and the number of steps."""
        import torch
        from torchjd.aggregation import PCDWeighting

        weighting: Any = PCDWeighting(self.tau, self.beta, self.eps)
        if carried:
            # TorchJD has no setter for its state.
            *means, steps = carried
            weighting._sq_norm_ema = gramian.new_tensor(means)
            weighting._n_steps, weighting._state_key = torch.tensor(int(steps)), 2
        weights = weighting(gramian)
        return weights, (*weighting._sq_norm_ema.tolist(), float(weighting._n_steps))
