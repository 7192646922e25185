"""Loop of a search: propose, run, score on the validation part, propose again.

There is no study on disk. Its trials are jobs in folders named by their overrides, so the same
command repeats the same proposals: what is finished is read, and the first unfinished one is run.
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

RunJobs = Callable[[Sequence[SweepJob]], None]
"""Runs the jobs that are not finished."""


@dataclass
class SearchLoop:
    """Search and its trials so far.

    Args:
        grid: Where jobs come from.
        search: What is searched.
        selection: Who scores them.
        rowsets: The rows, read once.
    """

    grid: Grid
    search: Search
    selection: Selection
    rowsets: dict[str, Rowsets]
    tried: list[Trial] = field(default_factory=list)
    _seen: dict[str, SweepJob] = field(default_factory=dict)

    @property
    def space(self) -> dict[str, Range]:
        """The search space less what the command line sets."""
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
                "'++sweep.space={train.lr: {low: 1e-5, high: 1e-3, log: true}}'",
            )

    def next(self) -> list[tuple[Setting, list[SweepJob]]]:
        """Proposes a batch, and plans its jobs.

        Raises:
            UserError: For a mistake that all of the first batch share.
        """
        count = min(self.search.batch, self.search.trials - len(self.tried))
        with self.grid.opened():
            found = list(self._planned(count))
        jobs = [job for _, jobs in found for job in jobs]
        if not self.tried and (mistake := same_mistake(jobs)) is not None:
            raise mistake
        return found

    def _planned(self, count: int) -> Iterator[tuple[Setting, list[SweepJob]]]:
        for setting in propose(self.search, self.space, self.tried, count):
            axes = [f"{key}={as_value(value)}" for key, value in setting.items()]
            planned = planned_jobs(self.grid, axes, self.rowsets)
            # Rounding and choices may propose the same job again.
            yield setting, [self._seen.setdefault(_id(job), job) for job in planned]

    def record(self, batch: Sequence[tuple[Setting, list[SweepJob]]]) -> None:
        """Adds a batch that has ended to the trials, and writes them down."""
        for setting, jobs in batch:
            self.tried.append(Trial(setting, self._loss(jobs)))
        write_json(self.selection.folder / FILE, finite(self._content()))

    def run(self, monitor: SweepMonitor, run_jobs: RunJobs) -> None:
        """Runs until all trials are done, or a failure ends it."""
        jobs = monitor.jobs
        while len(self.tried) < self.search.trials and not monitor.stopped:
            batch = self.next()
            known = {id(job) for job in jobs}
            new = [job for _, planned in batch for job in planned if id(job) not in known]
            jobs += new
            run_jobs(new)
            if any(job.status == "waiting" for job in new):
                return  # ended early: these are to be done first
            self.record(batch)

    def _loss(self, jobs: Sequence[SweepJob]) -> float:
        """Returns the loss of a setting: below 1 where it could win."""
        found = self.selection.evaluate(jobs)
        if found.criterion is None:
            return WORST
        if found.why:
            return 1.0 + self.search.select.keep - found.criterion.kept
        value = found.criterion.value
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


def _id(job: SweepJob) -> str:
    return str(job.folder) if job.valid else job.name
