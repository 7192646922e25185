"""The selection at the end of a sweep: scores of both parts from stored evidence, and a winner.

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

from rich.table import Table

from unlearn_runner.config.select import CriterionValue, Scores, Select
from unlearn_runner.evaluation.metrics.scores import SEEDS, interval, lower, sort_metrics
from unlearn_runner.report.chosen import ALL, FILE, HEADS, TEST, VALIDATION
from unlearn_runner.sweeps.jobs import DONE, SweepJob
from unlearn_runner.sweeps.split_scores import SplitScores, code
from unlearn_runner.tracking.folder import RESULTS
from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.files import finite, write_json
from unlearn_runner.utils.text import format_score


@dataclass
class Setting:
    """The points that differ in their seeds alone."""

    axes: dict[str, str]
    points: list[SweepJob]
    worth: CriterionValue | None = None
    """Its seeds' mean; none where one of them rules it out."""
    why: str = ""
    """Why it cannot win."""

    @property
    def name(self) -> str:
        """Its place on the axes."""
        return ", ".join(f"{key}={value}" for key, value in self.axes.items()) or "the only setting"


@dataclass
class Selection:
    """What is to be selected, checked before anything runs."""

    asked: Select
    points: Sequence[SweepJob]
    split_scores: SplitScores

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.split_scores.folder

    def finish(self) -> None:
        """Selects, prints and writes; says why where nothing can be selected."""
        if waiting := [p for p in self.points if p.status not in (*DONE, "failed")]:
            print(f"selected nothing yet: {len(waiting)} jobs have not ended")
            return
        settings = self._settings()
        found = self._best(settings)
        write_json(self.folder / FILE, finite(self._content(settings, found)))
        if found is None:
            print(f"selected nothing: {'; '.join(_reasons(settings))}")
            return
        able = sum(not setting.why for setting in settings)
        print(f"selected {found.name}: {self.asked.stated}; among {able} of {len(settings)}")
        for reason in _reasons(settings):
            print(f"         out of it: {reason}")
        results_console().print(_table(self._spread(found)))

    def _settings(self) -> list[Setting]:
        found: dict[tuple[tuple[str, str], ...], Setting] = {}
        for point in self.points:
            axes = {k: v for k, v in point.values.items() if k not in SEEDS}
            found.setdefault(tuple(axes.items()), Setting(axes, [])).points.append(point)
        self.split_scores.score(self.points)
        for setting in found.values():
            self._judge(setting)
        return list(found.values())

    def judged(self, points: Sequence[SweepJob]) -> Setting:
        """Returns what is to be said of one setting's points, which have ended."""
        self.split_scores.score(points)
        found = Setting({k: v for k, v in points[0].values.items() if k not in SEEDS}, [*points])
        self._judge(found)
        return found

    def _judge(self, setting: Setting) -> None:
        worths: list[CriterionValue] = []
        for point in setting.points:
            worth = self._worth(point)
            if isinstance(worth, str):
                setting.why = worth
                return
            worths.append(worth)
        value, kept = (
            math.fsum(getattr(worth, name) for worth in worths) / len(worths)
            for name in ("value", "kept")
        )
        setting.worth = CriterionValue(value, kept)
        if kept < self.asked.keep:
            setting.why = f"keeps less than {self.asked.keep:g} of the target's utility on part A"

    def _worth(self, point: SweepJob) -> CriterionValue | str:
        if point.status != "completed":
            return point.status
        mine, target = self.split_scores.of(point), self.split_scores.of(point, "target")
        if mine is None or target is None:
            return "its evidence is no longer in the store"
        return self.asked.worth(mine[VALIDATION], target[VALIDATION])

    def _best(self, settings: Sequence[Setting]) -> Setting | None:
        """Returns the winner: of equals the one that keeps more, then the first of the grid."""
        able = [(s, s.worth) for s in settings if s.worth is not None and not s.why]
        sign = -1 if self.asked.lower else 1
        return max(able, key=lambda one: (sign * one[1].value, one[1].kept), default=(None,))[0]

    def _spread(self, setting: Setting) -> dict[str, dict[str, list[float | None]]]:
        """Returns mean and half of the 95 % interval over seeds, by score and column."""
        columns: dict[str, list[Scores]] = {
            name: [(self.split_scores.of(point) or {})[name] for point in setting.points]
            for name in (VALIDATION, TEST)
        }
        columns[ALL] = [_all_rows(point) for point in setting.points]
        found: dict[str, dict[str, list[float | None]]] = {}
        for score in columns[VALIDATION][0]:
            found[score] = {}
            for name, by_seed in columns.items():
                values = [v for scores in by_seed if (v := scores.get(score)) is not None]
                found[score][name] = list(interval(values)) if values else [None, None]
        return found

    def _content(self, settings: Sequence[Setting], found: Setting | None) -> dict[str, Any]:
        asked = self.asked
        return {
            "code": code(),
            "criterion": {
                "name": asked.criterion,
                "stated": asked.stated,
                "ranked": asked.ranked,
                "better": "lower" if asked.lower else "higher",
                "keep": asked.keep,
                "peek": asked.peek,
                "ties": "more of the target's utility kept, then first in the grid",
            },
            "selected": None
            if found is None
            else {
                "axes": found.axes,
                "points": [point.name for point in found.points],
                "labels": HEADS,
                "scores": self._spread(found),
            },
            "settings": [
                {
                    "axes": setting.axes,
                    "points": [point.name for point in setting.points],
                    "value": setting.worth and setting.worth.value,
                    "kept": setting.worth and setting.worth.kept,
                    "could_win": not setting.why,
                    "why_not": setting.why or None,
                }
                for setting in settings
            ],
            "points": {point.name: self._facts(point) for point in self.points},
            "scored": self.split_scores.of_all(self.points),
            "split": self.split_scores.split,
        }

    def _facts(self, point: SweepJob) -> dict[str, Any]:
        if point.job is None:
            return {"axes": point.values, "status": point.status}
        scores = point.planned.plan.scores
        keys = {model: scores[model].key for model in ("unlearned", "target")}
        return {"axes": point.values, "status": point.status, **keys, ALL: _all_rows(point)}


def _reasons(settings: Sequence[Setting]) -> list[str]:
    """Returns why settings could not win, each reason once with their number."""
    counted = Counter(setting.why for setting in settings if setting.why)
    return [f"{count} of {len(settings)}: {why}" for why, count in counted.items()]


def _all_rows(point: SweepJob) -> dict[str, float | None]:
    scores = point.written(RESULTS).get("scores", {})
    return {k: v for k, v in scores.items() if not k.startswith(("target.", "retain_model."))}


def _table(scores: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Table:
    """Returns the winner's scores of both parts and of all rows."""
    table = Table(title="the selected setting", title_justify="left", title_style="bold")
    table.add_column("metric")
    table.add_column("better", justify="center")
    for label in HEADS.values():
        table.add_column(label.replace(" (", "\n("), justify="right")
    for name in sort_metrics(scores):
        cells = []
        for column in HEADS:
            mean, half = scores[name][column]
            cells.append(
                format_score(mean) + (f" ± {format_score(half)}" if half is not None else "")
            )
        table.add_row(name, "lower" if lower(name) else "higher", *cells)
    return table
