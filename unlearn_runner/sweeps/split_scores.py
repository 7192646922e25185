"""Scores of both parts of the rows, of every model of a sweep, from stored evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unlearn_runner.config.select import Select
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.parts import Parts, part
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.score import Score
from unlearn_runner.report.selection_file import FILE, TEST, VALIDATION
from unlearn_runner.store.fingerprint import code_hash
from unlearn_runner.store.store import Store
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
    parts: Parts
    rows: Mapping[str, Rows]
    """All of them, by view."""
    folder: Path
    """The sweep's."""

    @cached_property
    def split(self) -> dict[str, Any]:
        """Rows of each part, as they are written down."""
        parts = ((VALIDATION, self.parts.a), (TEST, self.parts.b))
        return {
            "share": self.settings.share,
            "seed": self.settings.seed,
            "by": self.settings.by,
            "rows_per_person": self.together,
            "views": {
                name: {"split": of.name, "digest": of.digest}
                | {label: list(places[name]) for label, places in parts}
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
        todo: dict[str, tuple[Score, Store]] = {}
        for job in (job for job in jobs if job.status == "completed"):
            for model in MODELS:
                stage = job.plan.scores[model]
                if stage.key not in self.scored:
                    todo[stage.key] = stage, job.store
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
                    for name, rows in ((VALIDATION, self.parts.a), (TEST, self.parts.b))
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
