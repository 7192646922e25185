"""Alternate preference optimisation: the start model's own other answers are preferred."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from unlearn_runner.methods.base import Alternates, Prerequisites
from unlearn_runner.methods.dpo import DPO


@dataclass(frozen=True)
class AltPO(DPO):
    """DPO whose winners are other answers that the start model itself gives.

    Source: Mekala et al. 2024 (AltPO). The alternates are sampled before training, in a stage that
    all runs from the same start model share; one is drawn at each visit, where the published code
    goes through all of them in one epoch. Published grid: beta 0.05, 0.1, 0.5; retain weight 1, 2,
    5; lr 1e-5 to 5e-5; 2 epochs of 5 alternates, so 10 of these.
    """

    doubled: bool = True
    """Multiply by 2/beta, as open-unlearning, where AltPO is published, does."""
    alternates: Alternates = field(default_factory=Alternates)

    def prerequisites(self) -> Prerequisites:
        """Returns what its terms need, with alternates in the place of refusals."""
        return replace(super().prerequisites(), alternates=self.alternates)
