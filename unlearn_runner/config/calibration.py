"""Comparison at equal retention: an unlearned model mixed with its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True)
class Calibration:
    """A score that is to be kept, and how much of it."""

    metric: str | None = None
    """Score that decides, as results.json has it, of which more is better: retain.probability;
    null calibrates nothing."""
    keep: Annotated[float, Gt(0), Le(1)] = 0.9
    """Share of the target's score that the mixed model has at least."""
    halvings: Annotated[int, Ge(1), Le(30)] = 7
    """Trials by which the share of the unlearned model is looked for, each half as wide as the one
    before: 7 leave it known to 1/128."""
