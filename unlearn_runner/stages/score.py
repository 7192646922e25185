"""Scoring: evidence in, scores out. Needs neither a model nor torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from unlearn_runner.benchmarks.base import View
from unlearn_runner.data.rows import Rows
from unlearn_runner.metrics.base import Judged, Metric
from unlearn_runner.metrics.evidence import Evidence
from unlearn_runner.stages.base import INERT, Outcome, Stage, Work

FILE = "scores.json"


@dataclass(frozen=True)
class RetainLog:
    """The evaluation log of a retain-only model, in the model's place."""

    path: Path = field(metadata=INERT)
    digest: str
    rows: Rows
    """Rows of the view that forget quality looks at, which the log's rows are matched with."""
    view: str

    def matched(self) -> Evidence:
        """Returns its forget rows, keyed by ours.

        Raises:
            DataError: If it is malformed, or of another split.
        """
        from unlearn_runner.logs.reference import reference

        return reference(self.path, self.rows, self.view)

    def everything(self) -> Evidence:
        """Returns all it recorded."""
        from unlearn_runner.logs.read import open_log

        return open_log(self.path).evidence()


Source = Stage | RetainLog


@dataclass(frozen=True)
class Score(Stage):
    """Scores one model's evidence against the retain-only model's."""

    evaluated: Source
    reference: Source | None
    views: dict[str, View]
    metrics: dict[str, Metric]
    version: str
    """Version of the benchmark, so that a raised one never reads old scores."""

    kind: ClassVar[str] = "score"
    on_all_ranks: ClassVar[bool] = False

    def run(self, work: Work) -> Outcome:
        """Writes `scores.json`."""
        from unlearn_runner.records import finite
        from unlearn_runner.store import write_json

        if isinstance(self.evaluated, RetainLog):
            judged = self.evaluated.everything()
        else:
            judged = Evidence.load(work.path(self.evaluated), self.views)
        reference = retained(self.reference, work, self.views)
        write_json(work.folder / FILE, finite(compute(judged, reference, self.metrics)))
        return "completed"


def retained(source: Source | None, work: Work, views: dict[str, View]) -> Evidence | None:
    """Returns what the retain-only model is compared by, or none."""
    if source is None:
        return None
    if isinstance(source, RetainLog):
        return source.matched()
    return Evidence.load(work.path(source), views)


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
