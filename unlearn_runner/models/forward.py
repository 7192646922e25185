"""Forward pass: logits, or hidden states between two blocks, only where a label is scored.

A row has several times more tokens than scored answer tokens, and the vocabulary projection is the
largest matrix product of a small model, so it is applied to the scored positions alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearn_runner.data.encode import Batch
from unlearn_runner.errors import ConfigError
from unlearn_runner.models.towers import TOWER

DIRECTION = 7  # a stream of draws of its own
Autocast = Callable[[], AbstractContextManager[object]]
"""Opens the arithmetic of a forward pass."""


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
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
            **batch.images,
        ).logits
    finally:
        hook.remove()
    return _exact(logits)


def hidden_states(model: Any, batch: Batch, layer: int | None) -> Tensor:
    """Returns the states after `layer` blocks at the scored positions; [scored tokens, dimension].

    The model's own forward pass runs, on whatever engine it lives; of its vocabulary projection one
    position is computed. In float32, or float64 when the model is.

    Raises:
        ConfigError: If the model has fewer blocks.
    """
    stack = blocks(model)
    if layer is None:
        layer = math.ceil(len(stack) * 3 / 8)
    if layer > len(stack):
        raise ConfigError(
            f"method.layer={layer} (or method.retain.layer) is not allowed; allowed: 0 to "
            f"{len(stack)}, the model's blocks",
            f"method.layer={len(stack)}, or null for three eighths of them",
        )
    found: list[Tensor] = []
    # The input of block k is the output of block k - 1; the last block's own output, before the
    # final norm, only that block knows.
    if layer == len(stack):
        hook = stack[-1].register_forward_hook(lambda _, __, out: found.append(_first(out)))
    else:
        hook = stack[layer].register_forward_pre_hook(
            lambda _, args, kwargs: found.append(_first(args or kwargs["hidden_states"])),
            with_kwargs=True,
        )
    narrow = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: (inputs[0][batch.row[:1], batch.position[:1]], *inputs[1:])
    )
    try:
        model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
            **batch.images,
        )
    finally:
        hook.remove()
        narrow.remove()
    states = found[0][batch.row, batch.position]
    return _exact(states)


def blocks(model: Any) -> nn.ModuleList:
    """Returns a causal LM's stack of blocks, whatever its family calls it; of its text part."""
    number = model.config.get_text_config().num_hidden_layers
    return next(
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == number and not TOWER.search(name)
    )


def _exact(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (tuple, list)) else output


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
        drawn = np.random.default_rng([self.seed, DIRECTION]).random(like.shape[-1])
        return torch.from_numpy(drawn).to(like)
