"""AdamW, its learning-rate schedule, and what a rectifier may know of a step it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import get_scheduler

from unlearn_runner.distributed.layout import Layout
from unlearn_runner.models.gradients import Gradient, GradientSpace
from unlearn_runner.rectifiers.base import OptimizerStep
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


def state(optim: torch.optim.Optimizer, layout: Layout) -> dict[str, Any]:
    """Returns an optimizer's state as a checkpoint stores it: this rank's share of the moments."""
    found = optim.state_dict()
    moments = {
        i: {n: layout.to_checkpoint(x) for n, x in entry.items()}
        for i, entry in found["state"].items()
    }
    return {**found, "state": moments}


def restore(optim: torch.optim.Optimizer, stored: dict[str, Any], layout: Layout) -> None:
    """Loads what `state` returned under any layout."""
    # The optimizer numbers parameters through its groups.
    numbered = [p for group in optim.param_groups for p in group["params"]]

    def local(found: Any, parameter: nn.Parameter) -> Any:
        if isinstance(found, torch.Tensor) and found.dim() == 0:
            return found
        return layout.from_local(layout.from_checkpoint(found, parameter), parameter)

    moments = {
        i: {n: local(x, numbered[int(i)]) for n, x in entry.items()}
        for i, entry in stored["state"].items()
    }
    optim.load_state_dict({**stored, "state": moments})


@dataclass(frozen=True)
class AdamWStep(OptimizerStep):
    """A step that AdamW has just taken."""

    optimizer: torch.optim.AdamW
    space: GradientSpace

    @property
    def betas(self) -> tuple[float, float]:
        """Decay of the running mean of gradients and of their squares."""
        return self.optimizer.defaults["betas"]

    @property
    def eps(self) -> float:
        """Addend of the root of the mean square."""
        return self.optimizer.defaults["eps"]

    def scale(self) -> Gradient:
        """Returns sqrt(v / (1 - beta2^t)) + eps, by which the step divided each number."""
        found: list[dict[str, Any]] = [
            self.optimizer.state.get(p) or {} for p in self.space.parameters
        ]
        squares = [state.get("exp_avg_sq") for state in found]
        local = [None if v is None else self.space.layout.to_local(v) for v in squares]
        out: Gradient = [None if v is None else torch.empty_like(v) for v in local]
        for state, x, v in zip(found, out, local, strict=True):
            unbiased = 1 - self.betas[1] ** float(state.get("step", 1))

            def scale(x: Tensor, v: Tensor, by: float = unbiased) -> Tensor:
                return torch.div(v, by, out=x).sqrt_().add_(self.eps)

            self.space.elementwise(scale, [x], [v])
        return out

    def decay(self) -> Gradient:
        """Returns the decoupled weight decay's part of the update: -lr * weight_decay * weights."""
        groups = self.optimizer.param_groups
        decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        pairs = zip(self.space.parameters, self.before, strict=True)
        return [None if x is None else x * (-self.lr * decays[id(p)]) for p, x in pairs]
