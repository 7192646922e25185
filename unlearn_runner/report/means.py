"""Means over seeds, with 95 % intervals, of what may be averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from unlearn_runner.evaluation.metrics.scores import interval
from unlearn_runner.utils.text import format_interval

P_VALUES = ("forget_quality",)
"""Scores that are p-values: their mean would be the luckiest seed's, so their exponents count."""
SMALLEST = 1e-30
"""A p-value of zero counts as this."""


@dataclass(frozen=True)
class Mean:
    """Mean of a score over independent runs."""

    value: float
    half: float | None
    """Half the width of its interval over runs; none for one run."""
    n: int
    within: tuple[float, float] | None = None
    """Ends of one run's own interval: a bootstrap over the people its rows are about."""

    @property
    def ends(self) -> tuple[float, float] | None:
        """Ends of the interval over runs, or of one run's own, where there is one."""
        if self.half is None:
            return self.within
        return self.value - self.half, self.value + self.half

    def __str__(self) -> str:
        return format_interval(self.value, self.half)


def mean_name(metric: str) -> str:
    """Returns what the mean of a score is called."""
    return f"log10 {metric}" if metric in P_VALUES else metric


def on_scale(metric: str, value: float) -> float:
    """Returns a score on the scale it is averaged and drawn on: the exponent of a p-value."""
    return math.log10(max(value, SMALLEST)) if metric in P_VALUES else value


def mean_of(metric: str, values: Iterable[float | None]) -> Mean | None:
    """Returns the mean of the values that exist, or none where none does."""
    known = [on_scale(metric, value) for value in values if value is not None]
    return Mean(*interval(known), len(known)) if known else None
