"""Base class of losses: a number over one split, as a sum over a micro-batch.

A loss returns the *sum* over its units (answer tokens, positions or rows); the training step
divides by the number of units in the whole optimizer batch. So the split into micro-batches changes
nothing. Losses compare by value: a rectifier finds out that its retain risk is a method's own
retain term.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.data.encode import Batch
    from unlearn_runner.models.forward import Models

Unit = Literal["token", "row", "position"]
"""Answer tokens; rows; or all of a row's tokens, its prompt included and padding left out."""
RetainLoss = Literal["nll", "kl"]


@dataclass(frozen=True)
class Loss(ABC):
    """Base class of losses."""

    needs_start_logprobs: ClassVar[bool] = False
    """Whether the loss reads the start model's log-probabilities, stored before training."""
    needs_start_model: ClassVar[bool] = False
    """Whether the loss needs the start model itself, held beside the trained one."""
    per_row: ClassVar[bool] = False
    """Whether it is one value per row, by definition."""
    needs_alternative: ClassVar[bool] = False
    """Whether every row must carry another answer to its question (`Batch.other`)."""

    @abstractmethod
    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over the batch's units, a scalar with a graph."""

    def row_weight(self, logprob: float, start: float | None) -> float | None:
        """Returns how much of grad log p(s) a row adds to the gradient of the mean over rows.

        None where the gradient is no weighted sum of those.

        Args:
            logprob: Of the row's answer, log p(s), in nats.
            start: The same under the start model, where it is known.
        """
        return None


def token_nll(models: Models, batch: Batch) -> Tensor:
    """Returns the negative log-likelihood of every answer token, in nats; [scored tokens]."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(models.logits(batch), batch.labels, reduction="none")


def start_nll(batch: Batch) -> Tensor:
    """Returns the same under the start model, from the stored numbers; [scored tokens]."""
    assert batch.start_logprob is not None, "the plan stores what a loss says it reads"
    return -batch.start_logprob


def other(batch: Batch) -> Batch:
    """Returns the batch of the other answers, row by row."""
    assert batch.other is not None, "the plan provides the other answers a loss says it needs"
    return batch.other


def retain_loss(name: str, **settings: Any) -> Loss:
    """Returns the loss that a retain setting names: "nll", "kl", "rr" or "ap".

    By name, because whoever refers to a class here carries its code in every key, chosen or not;
    the losses that are used enter a key as parts of the terms.
    """
    from importlib import import_module

    places = {
        "nll": ("likelihood", "NLL"),
        "kl": ("likelihood", "KL"),
        "rr": ("hidden", "Retention"),
        "ap": ("preference", "AP"),
    }
    module, cls = places[name]
    return getattr(import_module(f"unlearn_runner.methods.losses.{module}"), cls)(**settings)
