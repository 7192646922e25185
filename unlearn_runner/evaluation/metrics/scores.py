"""Scores as they are compared: interval over seeds, collapse, direction, order of names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

COLLAPSED = 0.05
"""Share of the target's utility below which an unlearned model counts as collapsed."""


def collapsed(utility: float | None, target: float | None) -> bool:
    """Returns whether a model has lost nearly all utility, whatever it forgot."""
    return utility is not None and target is not None and utility < COLLAPSED * target


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns mean and half the width of its 95 % interval (Student's t); none for one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    # Not scipy.stats, which takes half a second to load.
    from scipy.special import stdtrit

    freedom = len(values) - 1
    variance = math.fsum((v - mean) ** 2 for v in values) / freedom
    return mean, float(stdtrit(freedom, 0.975)) * math.sqrt(variance / len(values))


SEEDS = ("seed", "target.seed")

Scores = dict[str, float | None]
Directions = Mapping[str, str]
"""By score name "lower" or "higher", as `results.json` has it under `directions`."""

LOWER = ("forget.probability", "forget.rouge_l", "forget_quality_ks")
"""Scores of which less is better, in results without directions: those before 0.2."""


def lower(metric: str, directions: Directions | None = None) -> bool:
    """Returns whether less of a score is better."""
    return (directions or {}).get(metric, "lower" if metric in LOWER else "higher") == "lower"


def sort_metrics(names: Iterable[str]) -> list[str]:
    """Returns names of scores: of the whole first, then view by view."""
    names = list(names)
    views = list(dict.fromkeys(n.partition(".")[0] for n in names if "." in n))
    by_view = [n for view in views for n in names if n.startswith(f"{view}.")]
    return [n for n in names if "." not in n] + by_view
