"""Negative preference optimisation."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective, Positive


@dataclass(frozen=True)
class NPO(Objective):
    """Push forget answers below the start model's probability, less the further they are.

    Source: Zhang et al. 2024. Published with and without a retain term (NPO, NPO + NLL, NPO + KL).
    `reduction` acts on the retain term alone: NPO is a mean over rows by definition.
    """

    loss = losses.NPO

    beta: Positive = 0.1
    """Inverse temperature; beta -> 0 approaches gradient ascent."""
