"""Division of a sweep's rows in two parts, and the scores of both from stored evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unlearn_runner.config.select import Select
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.parts import Places, divide, part, units
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.score import Score
from unlearn_runner.report.selection_file import FILE, TEST, VALIDATION
from unlearn_runner.store.fingerprint import code_hash
from unlearn_runner.sweeps.jobs import SweepJob
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import finite, read_object

MODELS = ("unlearned", "target")
ByPart = dict[str, dict[str, float | None]]


@dataclass
class SplitScores:
    """Scores of the validation and the test part, and which rows are in each."""

    settings: Select
    together: int
    """Rows of the full split, one after another, that are one unit."""
    parts: dict[str, Places]
    """Rows of each part, by its label and view."""
    rows: Mapping[str, Rows]
    """All of them, by view."""
    folder: Path
    """The sweep's."""

    @cached_property
    def split(self) -> dict[str, Any]:
        """Rows of each part, as they are written down."""
        return {
            "share": self.settings.share,
            "seed": self.settings.seed,
            "by": self.settings.by,
            "rows_per_person": self.together,
            "views": {
                name: {"split": of.name, "digest": of.digest}
                | {label: list(places[name]) for label, places in self.parts.items()}
                for name, of in self.rows.items()
            },
        }

    @cached_property
    def scored(self) -> dict[str, ByPart]:
        """Scores of both parts by the key of the stage that scored all rows.

        It begins with those of an earlier selection, if they are of the same parts and code.
        """
        old = read_object(self.folder / FILE) or {}
        same = old.get("code") == code() and old.get("split") == self.split
        return old.get("scored", {}) if same else {}

    def score(self, jobs: Sequence[SweepJob]) -> None:
        """Scores both parts of what completed, and of its targets, each model once."""
        todo = {
            stage.key: (stage, job.planned.store)
            for job in jobs
            if job.status == "completed"
            for stage in (job.plan.scores[model] for model in MODELS)
            if stage.key not in self.scored
        }
        if todo:
            models = "1 model" if len(todo) == 1 else f"{len(todo)} models"
            console.print(f"scoring both parts of {models}")
        for key, (stage, store) in todo.items():
            read = [s for s in (stage.evaluated, stage.retain_model) if isinstance(s, Stage)]
            if all(store.manifest(source, load=True) for source in read):
                evidence = stage.evidence(stage.evaluated, store.path)
                retain_model = stage.retain_evidence(store.path)
                self.scored[key] = {
                    name: finite(compute(part(evidence, rows), retain_model, stage.metrics))
                    for name, rows in self.parts.items()
                }

    def of(self, job: SweepJob, model: str = "unlearned") -> ByPart | None:
        """Returns a job's scores of both parts, or its target's; none where evidence is missing."""
        return self.scored.get(job.plan.scores[model].key)

    def of_all(self, jobs: Sequence[SweepJob]) -> dict[str, ByPart]:
        """Returns the scores that these jobs have, and their targets."""
        planned = [job.plan.scores for job in jobs if job.valid]
        keys = dict.fromkeys(stages[model].key for stages in planned for model in MODELS)
        return {key: self.scored[key] for key in keys if key in self.scored}


def code() -> str:
    """Returns the hash of the code that takes a part; that of the scores is in their keys."""
    return code_hash(["unlearn_runner.evaluation.metrics.parts:part"])


def split_rows(settings: Select, jobs: Sequence[SweepJob]) -> SplitScores:
    """Returns the division of the rows of a sweep's valid jobs, nothing scored yet.

    Raises:
        ConfigError: If the jobs cannot be compared, or their rows not be divided.
    """
    _check_alike(jobs)
    first = jobs[0]
    benchmark, data = first.planned.run.benchmark, first.plan.inputs.rowsets
    _check_scores(settings, first.plan.scores["unlearned"])
    together = benchmark.rows_together if settings.by == "person" else 1
    rows = {name: of for name, (_, of) in data.views.items()}
    try:
        owners = units(data.splits.people, data.views, together)
        parts = divide(owners, settings.share, settings.seed)
    except ValueError as error:
        view = str(error)
        count = len(rows[view])
        whose = "one person's" if count > 1 else "one"
        raise ConfigError(
            f"sweep.select: the {count} rows of view {view} are {whose} and cannot be divided into "
            "two parts",
            f"sweep.select.by=row, or a higher benchmark.view.{view}.limit",
        ) from None
    by_label = {VALIDATION: parts.a, TEST: parts.b}
    return SplitScores(settings, together, by_label, rows, first.folder.parent)


def _check_alike(jobs: Sequence[SweepJob]) -> None:
    """Refuses jobs of different benchmarks: their scores are of different questions."""

    def facts(job: SweepJob) -> str:
        stage = job.plan.scores["unlearned"]
        views = job.plan.inputs.rowsets.views
        digests = [rows.digest for _, rows in views.values()]
        return repr((digests, stage.views, stage.metrics, stage.version))

    if len(set(map(facts, jobs))) > 1:
        raise ConfigError(
            "sweep.select: the jobs are scored on different rows or by different metrics, so "
            "none is the best of all",
            "a sweep for each benchmark, or sweep.select.criterion=null",
        )


def _check_scores(settings: Select, stage: Score) -> None:
    for name in settings.needed:
        view, _, metric = name.rpartition(".")
        there = metric.removesuffix("_ks") in stage.metrics and (not view or view in stage.views)
        if not there:
            raise ConfigError(
                f"sweep.select.criterion={settings.criterion} needs the score {name}, which this "
                "benchmark does not have",
                "sweep.select.criterion=null",
            )
