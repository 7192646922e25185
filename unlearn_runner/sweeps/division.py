"""Checks that a sweep's jobs can be compared, and divides their rows in two parts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from unlearn_runner.config.select import Select
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.metrics.parts import divide
from unlearn_runner.pipeline.inputs import Rowsets
from unlearn_runner.pipeline.stages.score import Score
from unlearn_runner.sweeps.jobs import SweepJob
from unlearn_runner.sweeps.selection import Selection
from unlearn_runner.sweeps.split_scores import SplitScores


def prepare_selection(settings: Select, jobs: Sequence[SweepJob]) -> Selection | None:
    """Returns the selection of a sweep, or none where nothing is to be selected.

    Raises:
        ConfigError: If the jobs cannot be compared, or their rows not be divided.
    """
    valid = [job for job in jobs if job.valid]
    if settings.criterion is None or not valid:
        return None
    _check_alike(valid)
    first = valid[0]
    benchmark, data = first.settings.benchmark, first.plan.inputs.rowsets
    _check_scores(settings, first.plan.scores["unlearned"])
    together = benchmark.rows_together if settings.by == "person" else 1
    try:
        parts = divide(units(data, together), settings.share, settings.seed)
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
    split_scores = SplitScores(settings, together, parts, rows, first.folder.parent)
    return Selection(settings, jobs, split_scores)


def units(data: Rowsets, together: int) -> dict[str, list[Hashable]]:
    """Returns the unit of each row, by view.

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
