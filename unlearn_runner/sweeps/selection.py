"""The selection at the end of a sweep: scores of both parts from stored evidence, and a winner.

No model is loaded. Seeds are averaged before settings are compared, and every number that the
choice rests on goes into `selection.json` in the sweep's folder.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from rich.table import Table

from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.fingerprint import code_hash
from unlearn_runner.metrics.evidence import Evidence
from unlearn_runner.metrics.parts import Parts, divide, part
from unlearn_runner.plan import Data
from unlearn_runner.progress import console, results_console
from unlearn_runner.records import RESULTS, finite
from unlearn_runner.report.chosen import ALL, FILE, HEADS, PART_A, PART_B
from unlearn_runner.report.compare import SEEDS, lower
from unlearn_runner.report.judge import interval
from unlearn_runner.results import ordered, shown
from unlearn_runner.stages.score import RetainLog, Score, Source, compute
from unlearn_runner.store import Store, write_json
from unlearn_runner.sweeps.points import DONE, Point
from unlearn_runner.sweeps.select import Scores, Select, Worth

ByPart = dict[str, dict[str, float | None]]


@dataclass
class Setting:
    """The points that differ in their seeds alone."""

    axes: dict[str, str]
    points: list[Point]
    worth: Worth | None = None
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
    points: Sequence[Point]
    together: int
    parts: Parts
    rows: Mapping[str, Rows]
    """All of them, by view."""
    folder: Path
    """The sweep's."""

    @cached_property
    def scored(self) -> dict[str, ByPart]:
        """Scores of A and B by the key of the stage that scored all rows."""
        return self._earlier()

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

    def _score(self, points: Sequence[Point]) -> None:
        """Scores both parts of what completed, and of its targets, each model once."""
        todo: dict[str, tuple[Score, Store]] = {}
        for point in (p for p in points if p.status == "completed"):
            for model in ("unlearned", "target"):
                stage = cast(Score, point.planned.stages.scores[model])
                if stage.key not in self.scored:
                    todo[stage.key] = stage, point.planned.store
        if todo:
            models = "1 model" if len(todo) == 1 else f"{len(todo)} models"
            console.print(f"scoring both parts of {models}")
        for key, (stage, store) in todo.items():
            evidence = _evidence(stage.evaluated, stage, store)
            reference = stage.reference and _evidence(stage.reference, stage, store)
            if evidence is not None and (reference or stage.reference is None):
                self.scored[key] = {
                    name: finite(compute(part(evidence, rows), reference, stage.metrics))
                    for name, rows in ((PART_A, self.parts.a), (PART_B, self.parts.b))
                }

    def _earlier(self) -> dict[str, ByPart]:
        """Returns the scores of an earlier selection, if they are of the same parts and code."""
        try:
            old = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        same = isinstance(old, dict) and old.get("code") == _code()
        return old.get("scored", {}) if same and old.get("split") == self._split() else {}

    def _parts_of(self, point: Point, model: str = "unlearned") -> ByPart | None:
        return self.scored.get(point.planned.stages.scores[model].key)

    def _settings(self) -> list[Setting]:
        found: dict[tuple[tuple[str, str], ...], Setting] = {}
        for point in self.points:
            axes = {k: v for k, v in point.values.items() if k not in SEEDS}
            found.setdefault(tuple(axes.items()), Setting(axes, [])).points.append(point)
        self._score(self.points)
        for setting in found.values():
            self._judge(setting)
        return list(found.values())

    def judged(self, points: Sequence[Point]) -> Setting:
        """Returns what is to be said of one setting's points, which have ended."""
        self._score(points)
        found = Setting({k: v for k, v in points[0].values.items() if k not in SEEDS}, [*points])
        self._judge(found)
        return found

    def _judge(self, setting: Setting) -> None:
        worths: list[Worth] = []
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
        setting.worth = Worth(value, kept)
        if kept < self.asked.keep:
            setting.why = f"keeps less than {self.asked.keep:g} of the target's utility on part A"

    def _worth(self, point: Point) -> Worth | str:
        if point.status != "completed":
            return point.status
        mine, target = self._parts_of(point), self._parts_of(point, "target")
        if mine is None or target is None:
            return "its evidence is no longer in the store"
        return self.asked.worth(mine[PART_A], target[PART_A])

    def _best(self, settings: Sequence[Setting]) -> Setting | None:
        """Returns the winner: of equals the one that keeps more, then the first of the grid."""
        able = [(s, s.worth) for s in settings if s.worth is not None and not s.why]
        sign = -1 if self.asked.lower else 1
        return max(able, key=lambda one: (sign * one[1].value, one[1].kept), default=(None,))[0]

    def _spread(self, setting: Setting) -> dict[str, dict[str, list[float | None]]]:
        """Returns mean and half of the 95 % interval over seeds, by score and column."""
        columns: dict[str, list[Scores]] = {
            name: [(self._parts_of(point) or {})[name] for point in setting.points]
            for name in (PART_A, PART_B)
        }
        columns[ALL] = [_all_rows(point) for point in setting.points]
        found: dict[str, dict[str, list[float | None]]] = {}
        for score in columns[PART_A][0]:
            found[score] = {}
            for name, by_seed in columns.items():
                values = [v for scores in by_seed if (v := scores.get(score)) is not None]
                found[score][name] = list(interval(values)) if values else [None, None]
        return found

    def _split(self) -> dict[str, Any]:
        parts = ((PART_A, self.parts.a), (PART_B, self.parts.b))
        return {
            "share": self.asked.share,
            "seed": self.asked.seed,
            "by": self.asked.by,
            "rows_per_person": self.together,
            "views": {
                name: {"split": of.name, "digest": of.digest}
                | {label: list(places[name]) for label, places in parts}
                for name, of in self.rows.items()
            },
        }

    def _content(self, settings: Sequence[Setting], found: Setting | None) -> dict[str, Any]:
        asked = self.asked
        return {
            "code": _code(),
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
            "scored": {key: self.scored[key] for key in self._used() if key in self.scored},
            "split": self._split(),
        }

    def _used(self) -> list[str]:
        planned = [point.planned.stages.scores for point in self.points if point.job is not None]
        return list(dict.fromkeys(s[m].key for s in planned for m in ("unlearned", "target")))

    def _facts(self, point: Point) -> dict[str, Any]:
        if point.job is None:
            return {"axes": point.values, "status": point.status}
        scores = point.planned.stages.scores
        keys = {model: scores[model].key for model in ("unlearned", "target")}
        return {"axes": point.values, "status": point.status, **keys, ALL: _all_rows(point)}


def prepared(asked: Select, points: Sequence[Point]) -> Selection | None:
    """Returns what is to be selected, or none where nothing is.

    Raises:
        ConfigError: If the points cannot be compared, or their rows not be divided.
    """
    planned = [point.planned for point in points if point.job is not None]
    if asked.criterion is None or not planned:
        return None
    _check_alike([cast(Score, job.stages.scores["unlearned"]) for job in planned], points)
    benchmark, data = planned[0].run.benchmark, _data(points)
    _check_scores(asked, cast(Score, planned[0].stages.scores["unlearned"]))
    together = benchmark.rows_together if asked.by == "person" else 1
    try:
        parts = divide(units(data, together), asked.share, asked.seed)
    except ValueError as error:
        view = str(error)
        rows = len(data.views[view][1])
        whose = "one person's" if rows > 1 else "one"
        raise ConfigError(
            f"sweep.select: the {rows} rows of view {view} are {whose} and cannot be divided into "
            "two parts",
            f"sweep.select.by=row, or a higher benchmark.view.{view}.limit",
        ) from None
    rows = {name: of for name, (_, of) in data.views.items()}
    return Selection(asked, points, together, parts, rows, planned[0].job.folder.parent)


def units(data: Data, together: int) -> dict[str, list[Hashable]]:
    """Returns by view which unit each row belongs to.

    Args:
        data: A benchmark's rows.
        together: Rows of the full split, one after another, that are one unit. A row that is not
            in it stands by itself, and is the same unit in all views of its split.
    """
    places = {(row.question, row.answer): i for i, row in enumerate(data.splits.full)}
    found: dict[str, list[Hashable]] = {}
    for name, (_, rows) in data.views.items():
        at = [places.get((row.question, row.answer)) for row in rows]
        found[name] = [
            (rows.name, i) if place is None else place // together for i, place in enumerate(at)
        ]
    return found


def _data(points: Sequence[Point]) -> Data:
    found = next(p.planned.stages.data for p in points if p.job is not None)
    assert found is not None
    return found


def _check_alike(stages: Sequence[Score], points: Sequence[Point]) -> None:
    """Refuses points of different benchmarks: their scores are of different questions."""

    def facts(point: Point) -> str:
        stage = cast(Score, point.planned.stages.scores["unlearned"])
        data = point.planned.stages.data
        digests = [] if data is None else [rows.digest for _, rows in data.views.values()]
        return repr((digests, stage.views, stage.metrics, stage.version))

    if len({facts(point) for point in points if point.job is not None}) > 1:
        raise ConfigError(
            "sweep.select: the points are scored on different rows or by different metrics, so "
            "none is the best of all",
            "a sweep for each benchmark, or sweep.select.criterion=null",
        )


def _check_scores(asked: Select, stage: Score) -> None:
    for name in asked.needed:
        view, _, metric = name.rpartition(".")
        there = metric.removesuffix("_ks") in stage.metrics and (not view or view in stage.views)
        if not there:
            raise ConfigError(
                f"sweep.select.criterion={asked.criterion} needs the score {name}, which this "
                "benchmark does not have",
                "sweep.select.criterion=null",
            )


def _evidence(source: Source, stage: Score, store: Store) -> Evidence | None:
    """Returns a model's evidence; none where it is no longer stored whole."""
    if isinstance(source, RetainLog):
        return source.matched()
    if store.manifest(source, load=True) is None:
        return None
    return Evidence.load(store.path(source), stage.views)


def _reasons(settings: Sequence[Setting]) -> list[str]:
    """Returns why settings could not win, each reason once with their number."""
    counted = Counter(setting.why for setting in settings if setting.why)
    return [f"{count} of {len(settings)}: {why}" for why, count in counted.items()]


def _code() -> str:
    """Returns the hash of the code that takes a part; that of the scores is in their keys."""
    return code_hash(["unlearn_runner.metrics.parts:part"])


def _all_rows(point: Point) -> dict[str, float | None]:
    scores = point.written(RESULTS).get("scores", {})
    return {k: v for k, v in scores.items() if not k.startswith(("target.", "reference."))}


def _table(scores: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Table:
    """Returns the winner's scores of both parts and of all rows."""
    table = Table(title="the selected setting", title_justify="left", title_style="bold")
    table.add_column("metric")
    table.add_column("better", justify="center")
    for label in HEADS.values():
        table.add_column(label.replace(" (", "\n("), justify="right")
    for name in ordered(scores):
        cells = []
        for column in HEADS:
            mean, half = scores[name][column]
            cells.append(shown(mean) + (f" ± {shown(half)}" if half is not None else ""))
        table.add_row(name, "lower" if lower(name) else "higher", *cells)
    return table
