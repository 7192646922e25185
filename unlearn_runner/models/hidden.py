"""Hidden states between two blocks, read by a hook at the scored positions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearn_runner.errors import ConfigError

if TYPE_CHECKING:
    from unlearn_runner.data.encode import Batch

DIRECTION = 7  # a stream of draws of its own


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
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    finally:
        hook.remove()
        narrow.remove()
    states = found[0][batch.row, batch.position]
    return states if states.dtype == torch.float64 else states.float()


def blocks(model: Any) -> nn.ModuleList:
    """Returns a causal LM's stack of blocks, whatever its family calls it."""
    number = model.config.num_hidden_layers
    return next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == number)


def random_direction(seed: int, like: Tensor) -> Tensor:
    """Returns numbers uniform on [0, 1), a function of the seed alone; [like.shape[-1]]."""
    drawn = np.random.default_rng([seed, DIRECTION]).random(like.shape[-1])
    return torch.from_numpy(drawn).to(like)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (tuple, list)) else output
