"""Monitor of a sweep: prints how its jobs begin and end, and the table at the end."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from unlearn_runner.errors import FAILURE, SIGNALLED, USAGE_ERROR, UserError
from unlearn_runner.evaluation.metrics.scores import SEEDS, collapsed
from unlearn_runner.pipeline.tables import number_columns, report_table
from unlearn_runner.report.compare import Axes, Comparison
from unlearn_runner.report.equal_forgetting import EqualForgetting
from unlearn_runner.report.means import mean_name, mean_of
from unlearn_runner.report.run_folder import read
from unlearn_runner.report.status_table import duration
from unlearn_runner.sweeps.jobs import DONE, SweepJob
from unlearn_runner.tracking.folder import RESULTS, STATUS
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils.columns import TitledTable
from unlearn_runner.utils.console import console, results_console
from unlearn_runner.utils.signals import SIGNALS
from unlearn_runner.utils.text import format_score

MAX_SCORES = 6
"""Scores in the table; results.json has them all."""
MAX_CAUSE = 600
"""Characters of a cause."""


class SweepMonitor:
    """Record of how the jobs of a sweep end, which a failure ends if it is to `fail_fast`.

    `total` says how many jobs there will be, where more are added to `jobs`.
    """

    def __init__(
        self, jobs: Sequence[SweepJob], fail_fast: bool = False, total: int | None = None
    ) -> None:
        self.jobs, self.fail_fast = list(jobs), fail_fast
        self.total = total or len(self.jobs)
        self.stopped = False
        """Whether no further job is to begin."""
        self.code = 0
        """The exit code of the sweep."""
        self._began: dict[int, float] = {}
        self._ended = 0

    def begin(self, job: SweepJob) -> None:
        """Prints that a job begins."""
        self._began[id(job)] = time.monotonic()
        self._print(job, "begins")

    def end(self, job: SweepJob, code: int = 0, cause: Exception | str | None = None) -> None:
        """Records and prints how a job ended; see `distributed.clusters.base.Monitor`."""
        found = job.written(STATUS)
        status = found.get("status")
        if code == 0 and status in DONE:
            job.status = str(status)
            diverged = job.written(RESULTS).get("divergence", {})
            job.cause = ": ".join(str(diverged[k]) for k in ("stage", "cause") if k in diverged)
        elif code - SIGNALLED in SIGNALS:
            job.status = "interrupted"
        else:
            job.status, job.cause = "failed", _cause(cause, found)
            if status in ("running", "waiting") and job.folder.is_dir():
                Record(job.folder).status("failed", error=job.cause)
            # A bug weighs more than a mistake.
            self.code = FAILURE if code != USAGE_ERROR or self.code == FAILURE else USAGE_ERROR
            self.stopped = self.stopped or self.fail_fast
        now = time.monotonic()
        spent = now - self._began.get(id(job), now)
        self._ended += 1
        left = (now - min(self._began.values(), default=now)) / self._ended * self._left(job)
        about = f"about {duration(left)} left  " if left else ""
        self._print(job, f"{job.status}  {spent:.1f}s  {about}{job.cause}".rstrip())

    def _left(self, job: SweepJob) -> int:
        """Returns how many jobs are still to end, of those that had work when this began."""
        if self.stopped:
            return 0
        waiting = sum(other.status == "waiting" for other in self.jobs if other is not job)
        return waiting + self.total - len(self.jobs)

    def refuse(self, job: SweepJob) -> None:
        """Records a job that cannot be planned, for a mistake in its settings."""
        job.status, job.cause = "failed", _cause(job.mistake, {})
        self.code = self.code or USAGE_ERROR
        self.stopped = self.stopped or self.fail_fast

    def _print(self, job: SweepJob, what: str) -> None:
        place = self.jobs.index(job) + 1
        console.print(f"[job {place}/{self.total}] {job.name}  {what}", markup=False)

    def summary(self, title: str) -> None:
        """Prints the table of the sweep, and below it the failures with their causes."""
        rows = [(job, job.written(RESULTS) if job.status in DONE else {}) for job in self.jobs]
        results_console().print(table(title, rows))
        if by_seed := over_seeds(rows):
            results_console().print(by_seed)
        for found in _equal_forgetting(self.jobs):
            results_console().print(found)
        failed = [job for job in self.jobs if job.status == "failed"]
        for job in failed:
            print(f"failed   {job.name}: {job.cause}")
            if job.valid and (job.folder / "traceback.txt").is_file():
                print(f"         {job.folder / 'traceback.txt'}")
        count = Counter(job.status for job in self.jobs)
        parts = (f"{count[status]} {status}" for status in ORDER if count[status])
        print(f"{len(self.jobs)} jobs: {', '.join(parts)}")


def _equal_forgetting(jobs: Sequence[SweepJob]) -> list[TitledTable]:
    """Returns what jobs that were scored along keep where they have forgotten equally much."""
    done = [job for job in jobs if job.status in DONE and job.planned.run.evaluate.every]
    if not done:
        return []
    runs = [read(job.folder, number) for number, job in enumerate(done, 1)]
    axes = Axes.among(Comparison(runs).metrics)
    found = EqualForgetting(Comparison(runs, axes))
    titles = {
        "equally much forgotten": found.table(),
        "what rectification changed, equally much forgotten": found.rectification(),
    }
    return [report_table(table, title) for title, table in titles.items() if table is not None]


ORDER = ("completed", "diverged", "failed", "interrupted", "waiting")


def _cause(given: Exception | str | None, status: Mapping[str, Any]) -> str:
    if isinstance(given, UserError):
        text = given.problem
    elif isinstance(given, Exception):
        text = f"{type(given).__name__}: {given}"
    else:
        written = status.get("error") if status.get("status") == "failed" else None
        text = str(written or given or "it ended without saying why")
    text = re.sub(r"^\w*Error: error: ", "", " ".join(text.split()))
    return text if len(text) <= MAX_CAUSE else f"{text[:MAX_CAUSE]}..."


Row = tuple[SweepJob, Mapping[str, Any]]


def label(scores: Mapping[str, float | None], status: str) -> str:
    """Returns a job's status with what its scores say of it."""
    useless = collapsed(scores.get("model_utility"), scores.get("target.model_utility"))
    return f"{status} (collapsed)" if useless else status


def table(title: str, rows: Sequence[Row]) -> TitledTable:
    """Returns a line per job: its place on the axes, how it ended, its scores.

    Before the jobs stands what they began from, after them the retain model; each different one.
    """
    values = {axis: [job.value(axis) for job, _ in rows] for axis in _axes(rows)}
    axes = [axis for axis, told in values.items() if len(rows) < 2 or len({*told}) > 1]
    names = _names(rows)
    columns = (*number_columns(axes), "status", *number_columns(names))
    found = TitledTable(title, *columns, keys=len(axes) + 1)
    found.same = [f"{axis} {told[0]}" for axis, told in values.items() if axis not in axes]
    _add_anchors(found, "target", rows, len(axes), names)
    for job, results in rows:
        scores = results.get("scores", {})
        place = (job.value(axis) for axis in axes)
        numbers = (format_score(scores.get(name)) for name in names)
        found.add_row(*place, label(scores, job.status), *numbers)
    found.add_section()
    _add_anchors(found, "retain_model", rows, len(axes), names)
    return found


def _add_anchors(
    table: TitledTable, model: str, rows: Sequence[Row], before: int, names: Sequence[str]
) -> None:
    """Adds a line for each different model of that name, and a rule below them."""
    scores = ([r.get("scores", {}).get(f"{model}.{n}") for n in names] for _, r in rows)
    for found in dict.fromkeys(map(tuple, scores)):
        if any(score is not None for score in found):
            table.add_row(*[""] * before, model, *map(format_score, found))
    table.add_section()


def _axes(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(axis for job, _ in rows for axis in job.values))


def _names(rows: Sequence[Row]) -> list[str]:
    """Returns the scores that a table shows: of the whole, of the forget rows, and others.

    A test's statistic says the same as its p-value.
    """
    names = dict.fromkeys(n for _, results in rows for n in results.get("scores", {}))
    own = [n for n in names if n.partition(".")[0] not in ("target", "calibrated", "retain_model")]
    own = [n for n in own if not n.endswith("_ks")]
    own.sort(key=lambda n: ("." in n, not n.startswith("forget.")))
    return own[:MAX_SCORES]


def over_seeds(rows: Sequence[Row]) -> TitledTable | None:
    """Returns mean and 95 % interval over the seeds of a sweep; none where none was swept.

    The interval is Student's, of the mean, for seeds as independent draws.
    """
    axes = _axes(rows)
    others = [axis for axis in axes if axis not in SEEDS]
    if len(others) == len(axes):
        return None
    names = _names(rows)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for job, results in rows:
        place = tuple(job.value(axis) for axis in others)
        groups.setdefault(place, []).append((job, results.get("scores", {})))
    columns = (*number_columns(others), *number_columns(["seeds"]), "how they ended")
    title = "over seeds: mean ± 95 % interval"
    scores = number_columns(map(mean_name, names))
    found = TitledTable(title, *columns, *scores, keys=len(others))
    for place, group in groups.items():
        # Jobs that share a model are one sample.
        done = [(job.plan.unlearn.key, s) for job, s in group if job.status == "completed"]
        samples = dict(done).values()
        means = (mean_of(name, (scores.get(name) for scores in samples)) for name in names)
        cells = ("-" if mean is None else str(mean) for mean in means)
        ends = Counter(label(scores, job.status) for job, scores in group)
        endings = ", ".join(f"{count} {end}" for end, count in ends.items())
        found.add_row(*place, str(len(samples)), endings, *cells)
    found.fold(range(len(columns)))
    return found
