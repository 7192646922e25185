"""Scores after each of several requests to forget: who was to go when, and what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.evaluation.metrics.base import Metric, compute
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.metrics.parts import Places, part
from unlearn_runner.evaluation.schema import View
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.score_files import TURNS
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.utils.files import finite, write_json


@dataclass(frozen=True)
class ScoreTurns(Stage):
    """Scores the model after each request, on what was requested so far, and on each request."""

    evaluated: tuple[Stage, ...]
    """The evaluation after each request, in order."""
    requests: dict[str, Places]
    """By request, its rows in each view of rows to be forgotten."""
    people: dict[str, tuple[int, ...]]
    """By request, whom its rows are about: numbers, as the full split has them."""
    views: dict[str, View]
    metrics: dict[str, Metric]
    """Without those that compare with the retain model, which has never known any request."""
    version: str

    kind: ClassVar[str] = "turns"
    order: ClassVar[int] = 3
    on_all_ranks: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The evaluations."""
        return self.evaluated

    def run(self, context: StageContext) -> Outcome:
        """Writes `turns.json`, and a line of telemetry per request."""
        names, found = list(self.requests), list[dict[str, Any]]()
        for number, (name, stage) in enumerate(zip(names, self.evaluated, strict=True), 1):
            evidence = Evidence.load(context.path(stage), self.views)
            requested = names[:number]
            scores = self._scores(evidence, requested)
            goals = {view: evidence.views[view].goal for view in self.requests[name]}
            each = {
                other: {
                    key: value
                    for key, value in self._scores(evidence, [other]).items()
                    if key.rpartition(".")[0] in goals
                }
                for other in names
            }
            found.append(
                {
                    "request": name,
                    "rows": max(map(len, self.requests[name].values())),
                    "people": self.people[name],
                    "requested": requested,
                    "scores": scores,
                    "of_requests": each,
                }
            )
            context.log({"stage": self.label, "step": number, **finite(scores)})
        write_json(context.folder / TURNS, finite(found))
        return "completed"

    def _scores(self, evidence: Evidence, requested: list[str]) -> dict[str, float | None]:
        """Returns all scores, those of rows to be forgotten on some requests' alone."""
        rows: Places = {name: tuple(range(view.rows)) for name, view in evidence.views.items()}
        for view in self.requests[requested[0]]:
            chosen = (row for name in requested for row in self.requests[name][view])
            rows[view] = tuple(sorted(chosen))
        return compute(part(evidence, rows), None, self.metrics)
