"""What a sweep says while it goes on, and the table at its end."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from unlearn_runner.errors import FAILURE, SIGNALLED, USAGE_ERROR, UserError
from unlearn_runner.evaluation.metrics.scores import SEEDS, collapsed, interval
from unlearn_runner.sweeps.jobs import DONE, SweepJob
from unlearn_runner.tracking.folder import RESULTS, STATUS
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils.console import console, results_console
from unlearn_runner.utils.signals import SIGNALS
from unlearn_runner.utils.text import format_score

MOST = 8
"""Scores in the table; results.json has them all."""
SAID = 600
"""Characters of a cause."""


class SweepMonitor:
    """Keeps how the jobs of a sweep end.

    Args:
        points: All jobs of the sweep.
        fail_fast: Whether a failure ends it.
        total: How many there will be, where more are added to `points`.
    """

    def __init__(
        self, points: Sequence[SweepJob], fail_fast: bool = False, total: int | None = None
    ) -> None:
        self.points, self.fail_fast = list(points), fail_fast
        self.total = total or len(self.points)
        self.stopped = False
        """Whether no further job is to begin."""
        self._began: dict[int, float] = {}
        self._code = 0

    def begin(self, job: SweepJob) -> None:
        """Says that a job begins."""
        self._began[id(job)] = time.monotonic()
        self._say(job, "begins")

    def end(self, job: SweepJob, code: int = 0, cause: Exception | str | None = None) -> None:
        """Takes how a job ended, and says it.

        Args:
            job: The job.
            code: Exit code of what ran it.
            cause: What went wrong, where its folder does not say so.
        """
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
            self._code = FAILURE if code != USAGE_ERROR or self._code == FAILURE else USAGE_ERROR
            self.stopped = self.stopped or self.fail_fast
        spent = time.monotonic() - self._began.get(id(job), time.monotonic())
        self._say(job, f"{job.status}  {spent:.1f}s  {job.cause}".rstrip())

    def refuse(self, point: SweepJob) -> None:
        """Takes a job that cannot be, for a mistake in its settings."""
        point.status, point.cause = "failed", _cause(point.mistake, {})
        self._code = self._code or USAGE_ERROR
        self.stopped = self.stopped or self.fail_fast

    @property
    def code(self) -> int:
        """The exit code of the sweep."""
        return self._code

    def _say(self, point: SweepJob, what: str) -> None:
        place = self.points.index(point) + 1
        console.print(f"[job {place}/{self.total}] {point.name}  {what}", markup=False)

    def summary(self, title: str) -> None:
        """Prints the table of the sweep, and below it the failures with their causes."""
        rows = [
            (point, point.written(RESULTS) if point.status in DONE else {}) for point in self.points
        ]
        results_console().print(table(title, rows))
        if by_seed := over_seeds(rows):
            results_console().print(by_seed)
        failed = [point for point in self.points if point.status == "failed"]
        for point in failed:
            print(f"failed   {point.name}: {point.cause}")
            if point.job is not None and (point.folder / "traceback.txt").is_file():
                print(f"         {point.folder / 'traceback.txt'}")
        counted = [(name, sum(p.status == name for p in self.points)) for name in ORDER]
        print(f"{len(self.points)} jobs: " + ", ".join(f"{n} {name}" for name, n in counted if n))


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
    return text if len(text) <= SAID else f"{text[:SAID]}..."


Row = tuple[SweepJob, Mapping[str, Any]]


def label(scores: Mapping[str, float | None], status: str) -> str:
    """Returns a job's status with what its scores say of it."""
    useless = collapsed(scores.get("model_utility"), scores.get("target.model_utility"))
    return f"{status} (collapsed)" if useless else status


def table(title: str, rows: Sequence[Row]) -> Table:
    """Returns one line per job: its place on the axes, how it ended, its scores."""
    found = Table(title=title, title_justify="left", title_style="bold")
    axes = _axes(rows)
    for axis in axes:
        found.add_column(axis.replace(".", "\n", 1), justify="right")
    found.add_column("status")
    names = _names(rows)
    for name in names:
        found.add_column(name.replace(".", "\n", 1), justify="right")
    for point, results in rows:
        scores = results.get("scores", {})
        values = point.values
        found.add_row(
            *(values.get(axis, "") for axis in axes),
            label(scores, point.status),
            *(format_score(scores.get(name)) for name in names),
        )
    return found


def _axes(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(axis for point, _ in rows for axis in point.values))


def _names(rows: Sequence[Row]) -> list[str]:
    """Returns the scores that a table shows: of the whole, of the forget rows, and others."""
    names = dict.fromkeys(n for _, results in rows for n in results.get("scores", {}))
    own = [n for n in names if n.partition(".")[0] not in ("target", "retain_model")]
    whole = [n for n in own if "." not in n]
    forget = [n for n in own if n.startswith("forget.")]
    rest = [n for n in own if n not in whole and n not in forget]
    return [*whole, *forget, *rest][:MOST]


def over_seeds(rows: Sequence[Row]) -> Table | None:
    """Returns mean and 95 % interval over the seeds of a sweep; none where none was swept.

    The interval is Student's, of the mean, for seeds as independent draws.
    """
    axes = _axes(rows)
    others = [axis for axis in axes if axis not in SEEDS]
    if len(others) == len(axes):
        return None
    names = _names(rows)
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    ends: dict[tuple[str, ...], list[str]] = {}
    for point, results in rows:
        values, scores = point.values, results.get("scores", {})
        place = tuple(values.get(axis, "") for axis in others)
        ends.setdefault(place, []).append(label(scores, point.status))
        kept = groups.setdefault(place, [])
        if point.status == "completed":
            kept.append(scores)
    found = Table(
        title="over seeds: mean ± 95 % interval", title_justify="left", title_style="bold"
    )
    for axis in others:
        found.add_column(axis.replace(".", "\n", 1), justify="right")
    found.add_column("seeds", justify="right")
    found.add_column("how they ended")
    for name in names:
        found.add_column(name.replace(".", "\n", 1), justify="right")
    for place, kept in groups.items():
        cells = []
        for name in names:
            values = [v for scores in kept if (v := scores.get(name)) is not None]
            mean, half = interval(values) if values else (None, None)
            cells.append(
                format_score(mean) + (f" ± {format_score(half)}" if half is not None else "")
            )
        told = (f"{ends[place].count(end)} {end}" for end in dict.fromkeys(ends[place]))
        found.add_row(*place, str(len(kept)), ", ".join(told), *cells)
    return found
