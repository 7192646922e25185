"""Scoring: evidence in; scores out, each with its direction. Needs neither a model nor torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.evaluation.logs.retain_log import RetainLog
from unlearn_runner.evaluation.metrics.base import Metric, compute, directions
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.schema import View
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome

FILE, DIRECTIONS = "scores.json", "directions.json"

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
        """Writes `scores.json` and `directions.json`."""
        from unlearn_runner.utils.files import finite, write_json

        if isinstance(self.evaluated, RetainLog):
            evidence = self.evaluated.everything()
        else:
            evidence = Evidence.load(context.path(self.evaluated), self.views)
        retain_model = retain_evidence(self.retain_model, context, self.views)
        scores = compute(evidence, retain_model, self.metrics)
        write_json(context.folder / FILE, finite(scores))
        write_json(context.folder / DIRECTIONS, directions(scores, evidence.views, self.metrics))
        return "completed"


def retain_evidence(
    source: Source | None, context: StageContext, views: dict[str, View]
) -> Evidence | None:
    """Returns the evidence of the retain-only model, or none."""
    if source is None:
        return None
    if isinstance(source, RetainLog):
        return source.matched()
    return Evidence.load(context.path(source), views)


def read(folder: Path, file: str = FILE) -> dict[str, Any]:
    """Returns the scores, or the `DIRECTIONS`, of an artifact of this stage, by score name."""
    import json

    return json.loads((folder / file).read_text(encoding="utf-8"))
