"""What a metric is: a pure function of evidence. Importable, and computable, without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from unlearn_runner.evaluation.metrics.evidence import Evidence


@dataclass(frozen=True)
class Judged:
    """What a metric may look at."""

    model: Evidence
    """The evidence of the model being scored."""
    retain_model: Evidence | None
    """The evidence of the retain-only model, or none."""
    scores: Mapping[str, float | None]
    """Scores computed before this metric, in the benchmark's order."""


@dataclass(frozen=True)
class Metric(ABC):
    """Base class of metrics; the keys a metric returns are final score names."""

    needs_retain_model: ClassVar[bool] = False
    """Whether the metric compares with the retain-only model."""

    @abstractmethod
    def score(self, name: str, judged: Judged) -> dict[str, float | None]:
        """Returns scores by name; `None` where the evidence for one is missing.

        Args:
            name: The name the benchmark gives this metric, used to form score names.
            judged: The evidence and the scores so far.
        """


def compute(
    model: Evidence, retain_model: Evidence | None, metrics: dict[str, Metric]
) -> dict[str, float | None]:
    """Returns all scores of a model, each metric seeing the ones before it."""
    scores: dict[str, float | None] = {}
    for name, metric in metrics.items():
        scores |= metric.score(name, Judged(model, retain_model, scores))
    return scores
