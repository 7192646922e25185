"""The course of a search: propose, run, score on part A, propose again; then the usual end.

There is no study on disk. Its trials are jobs in folders named by their overrides, so the same
command walks the same way again: what is finished is read, and the first unfinished one is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from unlearn_runner.config.sweep import Range, Search
from unlearn_runner.errors import ConfigError, as_value
from unlearn_runner.evaluation.metrics.scores import SEEDS
from unlearn_runner.pipeline.inputs import Rowsets
from unlearn_runner.sweeps.grid import Grid
from unlearn_runner.sweeps.jobs import SweepJob, planned_jobs, same_mistake
from unlearn_runner.sweeps.monitor import SweepMonitor
from unlearn_runner.sweeps.propose import Setting, Trial, propose
from unlearn_runner.sweeps.selection import Selection
from unlearn_runner.utils.files import finite, write_json

FILE = "search.json"
WORST = 2.0
"""Loss of a setting that cannot win at all; of one that keeps too little, from 1 on."""

Go = Callable[[Sequence[SweepJob]], None]
"""Brings points to their end, as far as they are not there."""


@dataclass
class SearchLoop:
    """One search on its way.

    Args:
        grid: Where points come from.
        search: What is searched.
        selection: Who scores them.
        data: The rows, read once.
    """

    grid: Grid
    search: Search
    selection: Selection
    data: dict[str, Rowsets]
    tried: list[Trial] = field(default_factory=list)
    _seen: dict[str, SweepJob] = field(default_factory=dict)

    @property
    def space(self) -> dict[str, Range]:
        """What is searched: the space less what the command line sets."""
        given = self.grid.given
        return {k: v for k, v in self.search.space.items() if v is not None and k not in given}

    def check(self) -> None:
        """Refuses a search of nothing, and axes that a search cannot have.

        Raises:
            ConfigError: Saying so.
        """
        others = [key for key in self.grid.typed if key not in SEEDS]
        if others:
            key = others[0]
            raise ConfigError(
                f"{key}: a search has no axis beside its seeds, it proposes values",
                f"++sweep.space={{{key}: {{choices: [...]}}}}",
            )
        if not self.space:
            raise ConfigError(
                "sweep.space has nothing to search that the command line leaves open",
                "++sweep.space={train.lr: {low: 1e-5, high: 1e-3, log: true}}",
            )

    def next(self) -> list[tuple[Setting, list[SweepJob]]]:
        """Proposes a batch, and plans its points.

        Raises:
            UserError: For a mistake that all of the first batch share.
        """
        count = min(self.search.batch, self.search.trials - len(self.tried))
        with self.grid.opened():
            found = list(self._planned(count))
        points = [point for _, points in found for point in points]
        if not self.tried and (mistake := same_mistake(points)) is not None:
            raise mistake
        return found

    def _planned(self, count: int) -> Iterator[tuple[Setting, list[SweepJob]]]:
        for setting in propose(self.search, self.space, self.tried, count):
            axes = [f"{key}={as_value(value)}" for key, value in setting.items()]
            planned = planned_jobs(self.grid, axes, self.data)
            # Rounding and choices may propose a point again: it is the same job.
            yield setting, [self._seen.setdefault(_id(p), p) for p in planned]

    def take(self, batch: Sequence[tuple[Setting, list[SweepJob]]]) -> None:
        """Adds a batch that has ended to what is known, and writes it down."""
        for setting, points in batch:
            self.tried.append(Trial(setting, self._loss(points)))
        write_json(self.selection.folder / FILE, finite(self._content()))

    def _loss(self, points: Sequence[SweepJob]) -> float:
        """Returns what is to be small: below 1 for settings that could win."""
        judged = self.selection.judged(points)
        if judged.worth is None:
            return WORST
        if judged.why:
            return 1.0 + self.search.select.keep - judged.worth.kept
        value = judged.worth.value
        return value if self.search.select.lower else 1.0 - value

    def _content(self) -> dict[str, Any]:
        search = self.search
        return {
            "seed": search.seed,
            "startup": search.startup,
            "batch": search.batch,
            "criterion": search.select.stated,
            "trials": [{"setting": t.setting, "loss": t.loss} for t in self.tried],
        }


def _id(point: SweepJob) -> str:
    return str(point.folder) if point.job is not None else point.name


def follow(course: SearchLoop, monitor: SweepMonitor, go: Go) -> None:
    """Goes on until all trials are done, or a failure ends it."""
    points = monitor.points
    while len(course.tried) < course.search.trials and not monitor.stopped:
        batch = course.next()
        known = {id(point) for point in points}
        new = [p for _, found in batch for p in found if id(p) not in known]
        points += new
        go(new)
        if any(point.status == "waiting" for point in new):
            return  # ended early: these are to be done first
        course.take(batch)
