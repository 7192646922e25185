"""Self-distillation from lowered start logits."""

from __future__ import annotations

from dataclasses import dataclass, field

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective, Positive, Retain, no_retain


@dataclass(frozen=True)
class UNDIAL(Objective):
    """Learn the start model's distribution with the answer token's logit lowered by beta.

    Source: Dong et al. 2024. Published: beta 10, no retain term, lr 1e-4, 10 epochs.
    """

    loss = losses.UNDIAL

    beta: Positive = 10.0
    """How far the answer token's logit is lowered."""
    retain: Retain = field(default_factory=no_retain)
