"""Likelihood of the answers, and closeness to the start model's distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_runner.methods.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.data.encode import Batch
    from unlearn_runner.models.forward import Models


@dataclass(frozen=True)
class NLL(Loss):
    """Negative log-likelihood of the answer tokens, in nats."""

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(models.logits(batch), batch.labels, reduction="sum")


@dataclass(frozen=True)
class KL(Loss):
    """KL(start ‖ trained), summed over the vocabulary, at the answer positions.

    Source: the retain term of GA+KL (Maini et al. 2024; GRU 1.7, G-effect 2.3). The published codes
    average over all positions, prompt and padding included. Here only scored positions count, or,
    with `positions="all"`, every token of the row; padding never does, or a batch's longest row
    would change the weight of the others.
    """

    positions: Literal["answer", "all"] = "answer"

    needs_start_model: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens, or over all positions."""
        from torch.nn.functional import kl_div, log_softmax

        if self.positions == "all":
            batch = batch.everywhere()
        trained = log_softmax(models.logits(batch), dim=-1)
        start = log_softmax(models.start_logits(batch), dim=-1)
        return kl_div(trained, start, reduction="sum", log_target=True)
