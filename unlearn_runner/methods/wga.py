"""Weighted gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective, Positive


@dataclass(frozen=True)
class WGA(Objective):
    """Gradient ascent that lets go of what is forgotten: every token weighs p^alpha.

    Source: Wang et al. 2025 (G-effect): alpha 5 on TOFU's 1 and 5 %, 7 on 10 %; open-unlearning has
    1. The GRU code takes alpha from the setting that is NPO's beta, 0.1 unless set.
    """

    loss = losses.WGA

    alpha: Positive = 5.0
    """Exponent of the confidence; 1 cancels the 1/p of the ascent's gradient, more stops early."""
    closed: bool = False
    """Report p^alpha/alpha, which has the same gradient and falls steadily."""
