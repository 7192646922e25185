"""What is said of scores wherever runs are compared: an interval over seeds, a model of no use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

COLLAPSED = 0.05
"""Share of the target's utility below which an unlearned model counts as collapsed."""


def collapsed(utility: float | None, target: float | None) -> bool:
    """Returns whether a model is of no use any more, whatever it forgot."""
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


def lower(metric: str) -> bool:
    """Returns whether less of a metric is better."""
    return metric in LOWER


Scores = dict[str, float | None]


# Which way is better; a forget view's probability and ROUGE are to fall, the rest is to rise.
LOWER = ("forget.probability", "forget.rouge_l", "forget_quality_ks")


def sort_metrics(names: Iterable[str]) -> list[str]:
    """Returns names of scores: of the whole first, then view by view."""
    names = list(names)
    views = list(dict.fromkeys(n.partition(".")[0] for n in names if "." in n))
    by_view = [n for view in views for n in names if n.startswith(f"{view}.")]
    return [n for n in names if "." not in n] + by_view
