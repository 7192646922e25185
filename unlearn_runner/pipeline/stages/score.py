"""Scoring: evidence in, scores out. Needs neither a model nor torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unlearn_runner.evaluation.benchmarks.base import View
from unlearn_runner.evaluation.logs.retain_log import RetainLog
from unlearn_runner.evaluation.metrics.base import Metric, compute
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome

FILE = "scores.json"


Source = Stage | RetainLog


@dataclass(frozen=True)
class Score(Stage):
    """Scores one model's evidence against the retain-only model's."""

    evaluated: Source
    retain_model: Source | None
    views: dict[str, View]
    metrics: dict[str, Metric]
    version: str
    """Version of the benchmark, so that a raised one never reads old scores."""

    kind: ClassVar[str] = "score"
    order: ClassVar[int] = 3
    on_all_ranks: ClassVar[bool] = False

    def run(self, context: StageContext) -> Outcome:
        """Writes `scores.json`."""
        from unlearn_runner.utils.files import finite, write_json

        if isinstance(self.evaluated, RetainLog):
            judged = self.evaluated.everything()
        else:
            judged = Evidence.load(context.path(self.evaluated), self.views)
        retain_model = retained(self.retain_model, context, self.views)
        write_json(context.folder / FILE, finite(compute(judged, retain_model, self.metrics)))
        return "completed"


def retained(
    source: Source | None, context: StageContext, views: dict[str, View]
) -> Evidence | None:
    """Returns what the retain-only model is compared by, or none."""
    if source is None:
        return None
    if isinstance(source, RetainLog):
        return source.matched()
    return Evidence.load(context.path(source), views)


def read(folder: Path) -> dict[str, float | None]:
    """Returns the scores an artifact of this stage holds."""
    import json

    return json.loads((folder / FILE).read_text(encoding="utf-8"))
