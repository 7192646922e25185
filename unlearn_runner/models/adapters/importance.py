"""Relative importance of the rows of weights: forget Fisher over retain Fisher (LoKU's FILA)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.models.adapters.targets import Targets
from unlearn_runner.store.keys import INERT

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Literal["batch_token_weighted", "per_sample", "per_token"]
TINY = 1e-30


@dataclass(frozen=True)
class Importance:
    """How row weights are estimated: by which gradients, of which modules, over what."""

    estimator: Estimator
    batch: int
    """Rows of a batch of `batch_token_weighted`."""
    eps: float
    relative: bool
    seed: int
    targets: Targets
    regex: str | None
    layers: tuple[int, int] | None
    passes: int = field(metadata=INERT)
    """Passes over the rows, each for a share of the modules: less memory, the same numbers."""

    @property
    def rows(self) -> int:
        """Rows of a batch, whatever the estimator."""
        return self.batch if self.estimator == "batch_token_weighted" else 1

    def weight(self, labels: int) -> int:
        """Returns what the squared gradient of a batch's mean loss per label counts."""
        return labels * labels if self.estimator == "per_sample" else labels

    def unit(self, labels: int) -> int:
        """Returns what a batch adds to the number that the sum is divided by."""
        return min(1, labels) if self.estimator == "per_sample" else labels

    def row_weights(self, forget: Tensor, retain: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Returns d_i = sqrt(sum_j I_f / (eps + I_r)) of a module, and facts about it.

        Args:
            forget: I_f; [out, in].
            retain: I_r; [out, in].

        Returns:
            d, [out], and the share of retain entries below eps, where R follows the forget
            Fisher alone, with both medians.
        """
        median = float(retain.median())
        eps = self.eps
        if self.relative:
            eps = max(eps * (median or float(retain.mean())), TINY)
        facts = {
            "eps_share": float((retain < eps).double().mean()),
            "median_forget": float(forget.median()),
            "median_retain": median,
        }
        return (forget / (eps + retain)).sum(dim=1).sqrt(), facts


EpsValue = Annotated[float, Gt(0), Lt(1e30)]
Batch = Annotated[int, Ge(1), Le(1_000_000)]
Passes = Annotated[int, Ge(1), Le(10_000)]
