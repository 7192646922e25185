"""Whether a sweep's points can be compared, and how their rows are divided."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import cast

from unlearn_runner.config.select import Select
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.metrics.parts import divide
from unlearn_runner.pipeline.inputs import Rowsets
from unlearn_runner.pipeline.stages.score import Score
from unlearn_runner.sweeps.jobs import SweepJob
from unlearn_runner.sweeps.selection import Selection
from unlearn_runner.sweeps.split_scores import SplitScores


def prepared(asked: Select, points: Sequence[SweepJob]) -> Selection | None:
    """Returns what is to be selected, or none where nothing is.

    Raises:
        ConfigError: If the points cannot be compared, or their rows not be divided.
    """
    planned = [point.planned for point in points if point.job is not None]
    if asked.criterion is None or not planned:
        return None
    _check_alike(points)
    benchmark, data = planned[0].run.benchmark, _data(points)
    _check_scores(asked, cast(Score, planned[0].plan.scores["unlearned"]))
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
    folder = planned[0].folder.parent
    return Selection(asked, points, SplitScores(asked, together, parts, rows, folder))


def units(data: Rowsets, together: int) -> dict[str, list[Hashable]]:
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


def _data(points: Sequence[SweepJob]) -> Rowsets:
    return next(p.planned.plan.inputs.rowsets for p in points if p.job is not None)


def _check_alike(points: Sequence[SweepJob]) -> None:
    """Refuses points of different benchmarks: their scores are of different questions."""

    def facts(point: SweepJob) -> str:
        stage = cast(Score, point.planned.plan.scores["unlearned"])
        views = point.planned.plan.inputs.rowsets.views
        digests = [rows.digest for _, rows in views.values()]
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
