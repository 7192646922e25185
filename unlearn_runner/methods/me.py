"""Maximum entropy on the forget answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import NonNegative, Objective


@dataclass(frozen=True)
class ME(Objective):
    """Guess at random: KL of the next-token distribution to the uniform one.

    Source: Yuan et al. 2025, with weight 0.1 beside a retain NLL of weight 1.
    """

    loss = losses.Entropy

    order: Literal["model-uniform", "uniform-model"] = "model-uniform"
    """KL(model ‖ uniform), as the paper defines it, or the reverse, as its code computes."""
    weight: NonNegative = 0.1
