"""Selection at the end of a sweep: the best setting by scores of the validation part.

No model is loaded. Seeds are averaged before settings are compared, and every number that the
choice rests on goes into `selection.json` in the sweep's folder.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Column

from unlearn_runner.config.select import CriterionValue, Scores, Select
from unlearn_runner.evaluation.metrics.scores import SEEDS, lower, sort_metrics
from unlearn_runner.pipeline.tables import number_columns
from unlearn_runner.report.means import mean_name, mean_of
from unlearn_runner.report.selection_file import ALL, FILE, LABELS, TEST, VALIDATION, setting_name
from unlearn_runner.sweeps.jobs import DONE, SweepJob
from unlearn_runner.sweeps.split_scores import SplitScores, code, split_rows
from unlearn_runner.tracking.folder import RESULTS
from unlearn_runner.utils.columns import TitledTable
from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.files import finite, write_json
from unlearn_runner.utils.text import format_interval


@dataclass
class Setting:
    """Jobs that differ in their seeds alone."""

    axes: dict[str, str]
    jobs: list[SweepJob]
    criterion: CriterionValue | None = None
    """Its seeds' mean; none where one of them rules it out."""
    why: str = ""
    """Why it cannot win."""

    @property
    def name(self) -> str:
        """Its place on the axes."""
        return setting_name(self.axes)


@dataclass
class Selection:
    """Selection among the settings of a sweep, checked before anything runs."""

    settings: Select
    jobs: Sequence[SweepJob]
    split_scores: SplitScores

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.split_scores.folder

    def finish(self) -> None:
        """Selects, prints and writes; says why where nothing can be selected."""
        if waiting := [job for job in self.jobs if job.status not in (*DONE, "failed")]:
            print(f"selected nothing yet: {len(waiting)} jobs have not ended")
            return
        groups: dict[str, list[SweepJob]] = {}
        for job in self.jobs:
            groups.setdefault(str(_axes(job)), []).append(job)
        self.split_scores.score(self.jobs)
        settings = [self.evaluate(jobs) for jobs in groups.values()]
        found = self._best(settings)
        write_json(self.folder / FILE, finite(self._content(settings, found)))
        if found is None:
            print(f"selected nothing: {'; '.join(_reasons(settings))}")
            return
        able = sum(not setting.why for setting in settings)
        print(f"selected {found.name}: {self.settings.stated}; among {able} of {len(settings)}")
        for reason in _reasons(settings):
            print(f"         out of it: {reason}")
        results_console().print(_table(self._spread(found)))

    def evaluate(self, jobs: Sequence[SweepJob]) -> Setting:
        """Returns the setting of jobs that have ended, with its criterion."""
        self.split_scores.score(jobs)
        setting = Setting(_axes(jobs[0]), [*jobs])
        by_model: dict[str, CriterionValue] = {}  # jobs that share one are one sample
        for job in jobs:
            found = self._criterion(job)
            if isinstance(found, str):
                setting.why = found
                return setting
            by_model[job.plan.unlearn.key] = found
        value, kept = (
            math.fsum(getattr(one, name) for one in by_model.values()) / len(by_model)
            for name in ("value", "kept")
        )
        setting.criterion = CriterionValue(value, kept)
        if kept < self.settings.keep:
            share = f"{self.settings.keep:g} of the target's utility"
            setting.why = f"keeps less than {share} on the validation part"
        return setting

    def _criterion(self, job: SweepJob) -> CriterionValue | str:
        if job.status != "completed":
            return job.status
        mine, target = self.split_scores.of(job), self.split_scores.of(job, "target")
        if mine is None or target is None:
            return "its evidence is no longer in the store"
        return self.settings.worth(mine[VALIDATION], target[VALIDATION])

    def _best(self, settings: Sequence[Setting]) -> Setting | None:
        """Returns the winner: of equals the one that keeps more, then the first of the grid."""
        able = [(s, s.criterion) for s in settings if s.criterion is not None and not s.why]
        sign = -1 if self.settings.lower else 1
        return max(able, key=lambda one: (sign * one[1].value, one[1].kept), default=(None,))[0]

    def _spread(self, setting: Setting) -> dict[str, dict[str, list[float | None]]]:
        """Returns mean and half of the 95 % interval over seeds, by score and column."""
        # Jobs that share an unlearned model are one sample.
        jobs = {job.plan.unlearn.key: job for job in setting.jobs}.values()
        columns: dict[str, list[Scores]] = {
            name: [(self.split_scores.of(job) or {})[name] for job in jobs]
            for name in (VALIDATION, TEST)
        }
        columns[ALL] = [_all_rows(job) for job in jobs]

        def mean(score: str, by_seed: Sequence[Scores]) -> list[float | None]:
            found = mean_of(score, (scores.get(score) for scores in by_seed))
            return [found.value, found.half] if found else [None, None]

        return {
            mean_name(score): {name: mean(score, by_seed) for name, by_seed in columns.items()}
            for score in columns[VALIDATION][0]
        }

    def _content(self, settings: Sequence[Setting], found: Setting | None) -> dict[str, Any]:
        select = self.settings
        return {
            "code": code(),
            "criterion": {
                "name": select.criterion,
                "stated": select.stated,
                "ranked": select.ranked,
                "better": "lower" if select.lower else "higher",
                "keep": select.keep,
                "peek": select.peek,
                "ties": "more of the target's utility kept, then first in the grid",
            },
            "selected": None
            if found is None
            else {
                "axes": found.axes,
                "jobs": [job.name for job in found.jobs],
                "labels": LABELS,
                "scores": self._spread(found),
            },
            "settings": [
                {
                    "axes": setting.axes,
                    "jobs": [job.name for job in setting.jobs],
                    "value": setting.criterion and setting.criterion.value,
                    "kept": setting.criterion and setting.criterion.kept,
                    "could_win": not setting.why,
                    "why_not": setting.why or None,
                }
                for setting in settings
            ],
            "jobs": {job.name: self._facts(job) for job in self.jobs},
            "scored": self.split_scores.of_all(self.jobs),
            "split": self.split_scores.split,
        }

    def _facts(self, job: SweepJob) -> dict[str, Any]:
        if not job.valid:
            return {"axes": job.values, "status": job.status}
        scores = job.plan.scores
        keys = {model: scores[model].key for model in ("unlearned", "target")}
        return {"axes": job.values, "status": job.status, **keys, ALL: _all_rows(job)}


def prepare_selection(settings: Select, jobs: Sequence[SweepJob]) -> Selection | None:
    """Returns the selection of a sweep, or none where nothing is to be selected.

    Raises:
        ConfigError: If the jobs cannot be compared, or their rows not be divided.
    """
    valid = [job for job in jobs if job.valid]
    if settings.criterion is None or not valid:
        return None
    return Selection(settings, jobs, split_rows(settings, valid))


def _axes(job: SweepJob) -> dict[str, str]:
    return {key: value for key, value in job.values.items() if key not in SEEDS}


def _reasons(settings: Sequence[Setting]) -> list[str]:
    """Returns why settings could not win, each reason once with their number."""
    counted = Counter(setting.why for setting in settings if setting.why)
    return [f"{count} of {len(settings)}: {why}" for why, count in counted.items()]


def _all_rows(job: SweepJob) -> dict[str, float | None]:
    scores = job.written(RESULTS).get("scores", {})
    return {
        k: v
        for k, v in scores.items()
        if not k.startswith(("target.", "calibrated.", "retain_model."))
    }


def _table(scores: Mapping[str, Mapping[str, Sequence[float | None]]]) -> TitledTable:
    """Returns the winner's scores of both parts and of all rows."""
    labels = (label.replace(" (", "\n(") for label in LABELS.values())
    columns = ["metric", Column("better", justify="center"), *number_columns(labels)]
    table = TitledTable("the selected setting", *columns)
    for name in sort_metrics(scores):
        means = (scores[name][column] for column in LABELS)
        cells = [format_interval(mean, half) for mean, half in means]
        table.add_row(name, "lower" if lower(name) else "higher", *cells)
    return table
