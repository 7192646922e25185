"""Maximum entropy on the forget answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective, Term


@dataclass(frozen=True)
class ME(Objective):
    """Guess at random: KL of the next-token distribution to the uniform one.

    Source: Yuan et al. 2025, with weight 0.1 beside a retain NLL of weight 1.
    """

    order: Literal["model-uniform", "uniform-model"] = "model-uniform"
    """KL(model ‖ uniform), as the paper defines it, or the reverse, as its code computes."""
    weight: Annotated[float, Ge(0)] = 0.1

    def terms(self) -> tuple[Term, ...]:
        """Returns the entropy term on forget rows and the retain term."""
        forget = Term("forget", "forget", losses.Entropy(self.order), self.weight, self.unit)
        return forget, *self.retain.terms(self.unit)
