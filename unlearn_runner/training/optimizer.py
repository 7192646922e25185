"""AdamW and its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import get_scheduler

from unlearn_runner.training.recipe import Recipe


def optimizer(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """Returns AdamW over float32 (or float64) masters."""
    decayed = list(parameters)
    groups: list[dict[str, Any]] = [{"params": decayed}]
    if not recipe.decay_norms:
        vectors = [p for p in decayed if p.dim() < 2]
        groups = [
            {"params": [p for p in decayed if p.dim() >= 2]},
            {"params": vectors, "weight_decay": 0.0},
        ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.lr,
        betas=recipe.betas,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        fused=True,  # one sweep over memory instead of one per operation
    )


def schedule(optim: torch.optim.Optimizer, recipe: Recipe, rows: int) -> Any:
    """Returns the learning-rate schedule: warm-up from zero, then constant, linear or cosine.

    The multiplier of update s (from 0) is s / warm-up during warm-up, so the first update after a
    warm-up setting has learning rate 0, as in the published runs.
    """
    name = "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule
    return get_scheduler(
        name,
        optim,
        num_warmup_steps=recipe.num_warmup_steps(rows),
        num_training_steps=recipe.num_steps(rows),
    )
