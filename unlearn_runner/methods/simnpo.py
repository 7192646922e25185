"""Simple NPO: length-normalised, without a start model."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import NonNegative, Objective, Positive


@dataclass(frozen=True)
class SimNPO(Objective):
    """Push the mean log-probability per token down, with a margin and no start model.

    Source: Fan et al. 2024. Published on TOFU: beta 4.5, weight 0.125 (10 %), beta 2.5, weight
    0.1375 (5 %), gamma 0, beside a retain NLL of weight 1. `reduction` acts on the retain term
    alone.
    """

    loss = losses.SimNPO

    beta: Positive = 4.5
    """Inverse temperature."""
    gamma: NonNegative = 0.0
    """Margin: the loss counts from log-probabilities above -gamma/beta per token."""
    margin_inside: bool = False
    """Multiply gamma by beta, as the authors' code and open-unlearning do."""
