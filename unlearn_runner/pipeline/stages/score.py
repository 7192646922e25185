"""Scoring: evidence in; scores out, each with its direction. Needs neither a model nor torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unlearn_runner.evaluation.logs.retain_log import RetainLog
from unlearn_runner.evaluation.metrics.base import Metric, compute, directions
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.schema import View, recorded
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.evaluate import step_folder
from unlearn_runner.pipeline.stages.score_files import ALONG, DIRECTIONS, INTERVALS, SCORES
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.utils.files import finite, write_json

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
    units: dict[str, tuple[int, ...]]
    """Which person each row of a view is about."""

    kind: ClassVar[str] = "score"
    order: ClassVar[int] = 3
    on_all_ranks: ClassVar[bool] = False

    def evidence(self, source: Source, path: Callable[[Stage], Path], folder: str = "") -> Evidence:
        """Returns what a stage left in a folder of its artifact, or a log's forget rows."""
        if isinstance(source, RetainLog):
            return source.matched()
        place = path(source) / folder
        return Evidence.load(place, recorded(place, self.views) if folder else self.views)

    def retain_evidence(self, path: Callable[[Stage], Path]) -> Evidence | None:
        """Returns the evidence of the retain-only model, or none."""
        return None if self.retain_model is None else self.evidence(self.retain_model, path)

    def run(self, context: StageContext) -> Outcome:
        """Writes `scores.json`, and beside it directions and bootstrap intervals."""
        from unlearn_runner.evaluation.metrics.bootstrap import intervals

        if isinstance(self.evaluated, RetainLog):
            evidence = self.evaluated.everything()
        else:
            evidence = self.evidence(self.evaluated, context.path)
        retain_model = self.retain_evidence(context.path)
        scores = compute(evidence, retain_model, self.metrics)
        write_json(context.folder / SCORES, finite(scores))
        write_json(context.folder / DIRECTIONS, directions(scores, evidence.views, self.metrics))
        given = (evidence, self.units, self.metrics, scores)
        write_json(context.folder / INTERVALS, intervals(*given, retain_model=retain_model))
        return "completed"


@dataclass(frozen=True)
class ScoreTrajectory(Score):
    """Scores the evidence that `PeriodicEval` left after some steps of unlearning."""

    steps: tuple[int, ...]

    kind: ClassVar[str] = "along"

    def run(self, context: StageContext) -> Outcome:
        """Writes `along.json`, and one line of telemetry per evaluated step."""
        retain_model, found = self.retain_evidence(context.path), []
        for step in self.steps:
            folder = step_folder(step)
            if (
                isinstance(self.evaluated, Stage)
                and not (context.path(self.evaluated) / folder).exists()
            ):
                break  # unlearning ended before
            evidence = self.evidence(self.evaluated, context.path, folder)
            scores = compute(evidence, retain_model, self.metrics)
            found.append({"step": step, "scores": scores})
            context.log({"stage": self.label, "step": step, **scores})
        write_json(context.folder / ALONG, finite(found))
        return "completed"
