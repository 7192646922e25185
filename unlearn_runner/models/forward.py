"""Forward pass: logits only where a label is scored.

A row has several times more tokens than scored answer tokens, and the vocabulary projection is the
largest matrix product of a small model, so it is applied to the scored positions alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from unlearn_runner.data.encode import Batch
from unlearn_runner.models.hidden import hidden_states, random_direction


class Autocast(Protocol):
    """Opens the arithmetic of a forward pass."""

    def __call__(self) -> AbstractContextManager[object]:
        """Returns the context."""
        ...


def scored_logits(model: Any, batch: Batch) -> Tensor:
    """Returns the logits that predict the batch's labels; [scored tokens, vocabulary].

    The model's own forward pass runs, so whatever a family does behind its vocabulary projection
    (Gemma 2 caps its logits, others scale them) is done; only the projection's input is narrowed.
    In float32, or float64 when the model is: loss arithmetic never happens in bf16.
    """

    def narrow(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][batch.row, batch.position], *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(narrow)
    try:
        logits = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        ).logits
    finally:
        hook.remove()
    return logits if logits.dtype == torch.float64 else logits.float()


@dataclass(frozen=True)
class Models:
    """Models that a loss evaluates: the one being trained, and the one unlearning began from."""

    trained: Any
    start: Any | None
    autocast: Autocast
    seed: int = 0
    """Seed of what a loss draws once per run."""

    def logits(self, batch: Batch) -> Tensor:
        """Returns the trained model's logits where a label is scored."""
        with self.autocast():
            return scored_logits(self.trained, batch)

    def start_logits(self, batch: Batch) -> Tensor:
        """Returns the start model's logits where a label is scored, without a graph."""
        with torch.no_grad(), self.autocast():
            return scored_logits(self.start, batch)

    def hidden(self, batch: Batch, layer: int | None) -> Tensor:
        """Returns the trained model's states after `layer` blocks; [scored tokens, dimension]."""
        with self.autocast():
            return hidden_states(self.trained, batch, layer)

    def start_hidden(self, batch: Batch, layer: int | None) -> Tensor:
        """Returns the start model's states after `layer` blocks, without a graph."""
        with torch.no_grad(), self.autocast():
            return hidden_states(self.start, batch, layer)

    def direction(self, like: Tensor) -> Tensor:
        """Returns the run's random direction, uniform on [0, 1); as long as `like`'s last axis."""
        return random_direction(self.seed, like)
