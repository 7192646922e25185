"""Losses on hidden states, at the positions whose next token is scored.

Convention of `layer`: the state *after* so many blocks, so 0 is the embeddings and 1 the first
block's output; the last block's output is taken before the final norm. Hugging Face's
`hidden_states[layer]` is the same but for the last, which has the norm in it. Null is three eighths
of the blocks, rounded up: 9 of Phi-1.5's 24.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_runner.methods.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.data.encode import Batch
    from unlearn_runner.models.forward import Models

Over = Literal["sum", "mean"]
"""What becomes of the hidden dimension: the squared norm as the papers print it, or its mean."""


@dataclass(frozen=True)
class Steering(Loss):
    """||h - c u||^2: hidden states are drawn to one random direction.

    Source: Li et al. 2024 (RMU). The direction u is drawn once per run, uniform on [0, 1) in every
    entry, then of length 1 (`unit`); G-effect's code leaves its length (`uniform`). The published
    codes take the mean over the hidden dimension instead of the sum.
    """

    coefficient: float
    layer: int | None = None
    direction: Literal["unit", "uniform"] = "unit"
    over: Over = "sum"

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        states = models.hidden(batch, self.layer)
        target = models.direction(states)
        if self.direction == "unit":
            target = target / target.norm()
        return _squares(states - self.coefficient * target, self.over)


@dataclass(frozen=True)
class Retention(Loss):
    """||h - h_start||^2: representation retention, RMU's retain term.

    Source: Li et al. 2024; G-effect's RR, which has no published formula.
    """

    layer: int | None = None
    over: Over = "sum"

    needs_start_model: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        states = models.hidden(batch, self.layer)
        return _squares(states - models.start_hidden(batch, self.layer), self.over)


def _squares(gap: Tensor, over: Over) -> Tensor:
    return (gap**2).sum() / (gap.shape[-1] if over == "mean" else 1)
