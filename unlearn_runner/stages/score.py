"""Scoring: evidence in, scores out. Needs neither a model nor torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unlearn_runner.benchmarks.base import View
from unlearn_runner.metrics.base import Judged, Metric
from unlearn_runner.metrics.evidence import Evidence
from unlearn_runner.stages.base import Outcome, Stage, Work

FILE = "scores.json"


@dataclass(frozen=True)
class Score(Stage):
    """Scores one model's evidence against the retain-only model's."""

    evaluated: Stage
    reference: Stage | None
    views: dict[str, View]
    metrics: dict[str, Metric]
    version: str
    """Version of the benchmark, so that a raised one never reads old scores."""

    kind: ClassVar[str] = "score"

    def run(self, work: Work) -> Outcome:
        """Writes `scores.json`."""
        from unlearn_runner.records import finite
        from unlearn_runner.store import write_json

        judged = Evidence.load(work.path(self.evaluated), self.views)
        reference = None
        if self.reference is not None:
            reference = Evidence.load(work.path(self.reference), self.views)
        write_json(work.folder / FILE, finite(compute(judged, reference, self.metrics)))
        return "completed"


def compute(
    model: Evidence, reference: Evidence | None, metrics: dict[str, Metric]
) -> dict[str, float | None]:
    """Returns all scores of a model, each metric seeing the ones before it."""
    scores: dict[str, float | None] = {}
    for name, metric in metrics.items():
        scores |= metric.score(name, Judged(model, reference, scores))
    return scores


def read(folder: Path) -> dict[str, float | None]:
    """Returns the scores an artifact of this stage holds."""
    import json

    return json.loads((folder / FILE).read_text(encoding="utf-8"))
