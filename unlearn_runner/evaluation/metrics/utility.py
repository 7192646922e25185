"""Model utility: the harmonic mean of what must be kept (TOFU)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from unlearn_runner.evaluation.metrics.base import Metric, MetricInputs
from unlearn_runner.evaluation.schema import Role, View


def model_utility(parts: Sequence[float]) -> float:
    """Returns the harmonic mean of the parts; 0 when any part is 0, NaN when any is NaN."""
    if any(map(math.isnan, parts)):
        return math.nan
    if min(parts) <= 0:
        return 0.0
    # As scipy and open-unlearning sum: their stored values are met to the last bit.
    with np.errstate(over="ignore"):
        return float(1 / np.mean(1 / np.array(parts)))


@dataclass(frozen=True)
class ModelUtility(Metric):
    """Harmonic mean of the named scores over every view to be kept: nine numbers for TOFU."""

    parts: tuple[str, ...] = ("probability", "rouge_l", "truth_ratio")

    of_scores: ClassVar[bool] = True

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns `<name>`."""
        kept = [view.name for view in inputs.model.views.values() if view.goal == "keep"]
        parts = [inputs.scores.get(f"{view}.{part}") for view in kept for part in self.parts]
        known = [part for part in parts if part is not None]
        return {name: model_utility(known) if parts and len(known) == len(parts) else None}

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns nothing: its parts say what they need."""
        return ()
