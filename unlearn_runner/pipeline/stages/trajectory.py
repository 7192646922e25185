"""Score trajectory: the scores of a model while it is unlearned, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.evaluation.metrics.base import Metric, compute
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.schema import View
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.evaluate import folder
from unlearn_runner.pipeline.stages.score import Source, retain_evidence
from unlearn_runner.store.artifact import Outcome

FILE = "along.json"


@dataclass(frozen=True)
class ScoreTrajectory(Stage):
    """Scores the evidence that `PeriodicEval` left after some steps of unlearning."""

    unlearned: Stage
    retain_model: Source | None
    steps: tuple[int, ...]
    views: dict[str, View]
    metrics: dict[str, Metric]
    version: str

    kind: ClassVar[str] = "along"
    order: ClassVar[int] = 3
    on_all_ranks: ClassVar[bool] = False

    def run(self, context: StageContext) -> Outcome:
        """Writes `along.json`, and one line of telemetry per evaluated step."""
        from unlearn_runner.utils.files import finite, write_json

        place = context.path(self.unlearned)
        retain_model = retain_evidence(self.retain_model, context, self.views)
        found = []
        for step in self.steps:
            evidence = Evidence.load(place / folder(step), self.views)
            scores = compute(evidence, retain_model, self.metrics)
            found.append({"step": step, "scores": scores})
            context.log({"stage": self.label, "step": step, **scores})
        write_json(context.folder / FILE, finite(found))
        return "completed"


def read(place: Path) -> list[dict[str, Any]]:
    """Returns step and scores of every evaluated step."""
    import json

    return json.loads((place / FILE).read_text(encoding="utf-8"))
