"""Bootstrap intervals of one model's scores, over the people that the evaluated rows are about.

Rows about one person stand or fall together, so people are drawn with replacement, not rows
(Cameron, Gelbach and Miller 2008). An interval says how far the score would move on other people
of the same kind, not on another seed of training.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from unlearn_runner.evaluation.metrics.base import Metric, Sample
from unlearn_runner.evaluation.metrics.evidence import Evidence, Floats, ViewEvidence

DRAWS = 1000
ENDS = (0.025, 0.975)
Intervals = dict[str, tuple[float, float]]


def intervals(
    evidence: Evidence,
    units: Mapping[str, Sequence[int]],
    metrics: Mapping[str, Metric],
    scores: Mapping[str, float | None],
    draws: int = DRAWS,
    retain_model: Evidence | None = None,
) -> Intervals:
    """Returns low and high end of the 95 % percentile interval of each score that has one.

    Those are the means over rows, what is computed from them alone, and what its metric samples
    itself (`Metric.sampled`); a test against the retain model has none.

    Args:
        evidence: Of the model.
        units: By view, which person each of its rows is about.
        metrics: By name, as they were computed.
        scores: What they are; one that does not exist, or is not finite, has no interval.
        draws: Bootstrap samples.
        retain_model: Evidence of the retain-only model, in which the same rows are drawn.
    """
    found = samples(evidence, units, metrics, scores, draws, retain_model)
    ends = {name: np.nanquantile(values, ENDS) for name, values in found.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def samples(
    evidence: Evidence,
    units: Mapping[str, Sequence[int]],
    metrics: Mapping[str, Metric],
    scores: Mapping[str, float | None],
    draws: int = DRAWS,
    retain_model: Evidence | None = None,
) -> dict[str, Floats]:
    """Returns the scores that have an interval in every bootstrap sample; each [draws].

    Two models whose evidence is of the same rows have the same people drawn, sample by sample. The
    arguments are those of `intervals`.
    """
    views = evidence.views.values()
    counts = {v.name: _counts(_owners(v, units.get(v.name, ())), draws) for v in views}
    sample = Sample(evidence, retain_model, counts, {})
    for name, metric in metrics.items():
        if metric.of_scores and not _exists(scores.get(name)):
            continue
        found = metric.sampled(name, sample)
        sample.scores.update({key: v for key, v in found.items() if _exists(scores.get(key))})
    return sample.scores


def _exists(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _owners(view: ViewEvidence, units: Sequence[int]) -> list[int]:
    """Returns each recorded row's person; a row that is not the view's stands by itself."""
    keys = range(view.rows) if view.keys is None else view.keys
    known = range(len(units))
    return [units[key] if key in known else -1 - place for place, key in enumerate(keys)]


def _counts(owners: Sequence[int], draws: int) -> Floats:
    """Returns how often each row is drawn in each sample; [draws, rows].

    Views that ask the same people draw the same ones.
    """
    people, rows = np.unique(np.array(owners, int), return_inverse=True)
    random = np.random.default_rng(zlib.crc32(people.tobytes()))
    drawn = random.multinomial(len(people), np.full(len(people), 1 / max(len(people), 1)), draws)
    return drawn[:, rows].astype(float)
