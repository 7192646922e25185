"""Losses over one split, as sums over a micro-batch.

A loss returns the *sum* over its units (answer tokens, or rows); the training step divides by the
number of units in the whole optimizer batch. So the split into micro-batches changes nothing.
Losses compare by value: a rectifier finds out that its retain risk is a method's own retain term.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.data.encode import Batch
    from unlearn_runner.models.forward import Models

Unit = Literal["token", "row"]
RetainLoss = Literal["nll", "kl"]


@dataclass(frozen=True)
class Loss(ABC):
    """Base class of losses."""

    needs_start_logprobs: ClassVar[bool] = False
    """Whether the loss reads the start model's log-probabilities, stored before training."""
    needs_start_model: ClassVar[bool] = False
    """Whether the loss needs the start model itself, held beside the trained one."""

    @abstractmethod
    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over the batch's units, a scalar with a graph."""


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
    average over all positions, prompt and padding included; here only scored positions count.
    """

    needs_start_model: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        from torch.nn.functional import kl_div, log_softmax

        trained = log_softmax(models.logits(batch), dim=-1)
        start = log_softmax(models.start_logits(batch), dim=-1)
        return kl_div(trained, start, reduction="sum", log_target=True)


@dataclass(frozen=True)
class NPO(Loss):
    """Negative preference optimisation: -(2/beta) log sigmoid(-beta log(p(s)/p_start(s))).

    Source: Zhang et al. 2024; p(s) is the product over answer tokens, without length
    normalisation. One value per row, so the unit is the row.
    """

    beta: float

    needs_start_logprobs: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over rows."""
        from torch.nn.functional import cross_entropy, logsigmoid

        nll = cross_entropy(models.logits(batch), batch.labels, reduction="none")
        assert batch.start_logprob is not None, "the plan stores start log-probabilities for NPO"
        gap = batch.rows_sum(-nll - batch.start_logprob.to(nll.dtype))
        return -(2 / self.beta) * logsigmoid(-self.beta * gap).sum()


def retain_loss(name: RetainLoss) -> Loss:
    """Returns the loss that a retain setting names.

    By name, because whoever refers to a class here carries its code in every key, chosen or not;
    the losses that are used enter a key as parts of the terms.
    """
    return globals()[{"nll": "NLL", "kl": "KL"}[name]]()
