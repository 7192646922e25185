"""Saturation- and importance-weighted ascent."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import NonNegative, Objective


@dataclass(frozen=True)
class SatImp(Objective):
    """Gradient ascent whose tokens weigh p^beta1 (1 - p)^beta2.

    Source: Yang et al. 2025. open-unlearning's three sources disagree on the weights (forget 0.1
    and retain 1, or 1 and 0.1); these are its YAML's.
    """

    loss = losses.SatImp

    beta1: NonNegative = 5.0
    """Exponent of p: how much less a forgotten token weighs."""
    beta2: NonNegative = 1.0
    """Exponent of 1 - p: how much less a certain token weighs."""
    weight: NonNegative = 0.1
