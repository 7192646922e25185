"""Direct preference optimisation with a refusal preferred to the forget answer."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective, Positive


@dataclass(frozen=True)
class DPO(Objective):
    """Prefer a refusal to the forget answer, relative to the start model.

    Source: Rafailov et al. 2023 in TOFU's form (Maini et al. 2024); the refusal is drawn anew at
    each visit. `reduction` acts on the retain term alone.
    """

    loss = losses.DPO

    beta: Positive = 0.1
    """Inverse temperature."""
    doubled: bool = False
    """Multiply by 2/beta, as open-unlearning does."""
