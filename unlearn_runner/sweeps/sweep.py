"""A sweep from its command to its table: plan all points, run those that are not finished.

Job folders are named by their overrides, so that the same command finds what it left: what is
finished is skipped, what was interrupted goes on, what failed is tried again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from unlearn_runner.config import messages
from unlearn_runner.config.root import Run
from unlearn_runner.config.sweep import Search
from unlearn_runner.errors import UserError
from unlearn_runner.pipeline.inputs import Rowsets
from unlearn_runner.pipeline.job import PlannedJob, refuse_other_configuration
from unlearn_runner.sweeps import propose
from unlearn_runner.sweeps.division import prepared
from unlearn_runner.sweeps.grid import Grid
from unlearn_runner.sweeps.jobs import SweepJob, planned_jobs, same_mistake
from unlearn_runner.sweeps.monitor import SweepMonitor
from unlearn_runner.sweeps.search import SearchLoop, follow
from unlearn_runner.sweeps.selection import Selection
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils import signals
from unlearn_runner.utils.console import console, results_console
from unlearn_runner.utils.disk import disk_errors
from unlearn_runner.utils.locks import locked


def run(arguments: Sequence[str]) -> int:
    """Runs the sweep of a checked command line; returns the exit code.

    Raises:
        UserError: For a mistake that all points share; nothing is written then.
        Interrupted: If a signal ended it.
    """
    flags, overrides = messages.split(arguments)
    folders = [str(folder.absolute()) for folder in messages.further(flags, overrides)]
    started = time.monotonic()
    read: dict[str, Rowsets] = {}
    with Grid(overrides, folders).opened() as grid:
        found = planned_jobs(grid, [], read)
    if (mistake := same_mistake(found)) is not None:
        raise mistake
    first = next(point for point in found if point.job is not None)
    settings = first.planned.run
    selection = prepared(settings.sweep.select, found)
    if isinstance(settings.sweep, Search) and selection is not None:
        course = SearchLoop(grid, settings.sweep, selection, read)
        return _search(course, settings, len(found))
    if settings.plan_only:
        print_plan(found)
        return 0
    settings.cluster.check()
    monitor = SweepMonitor(found, settings.sweep.fail_fast)
    for point in found:
        if point.job is None:
            monitor.refuse(point)
    folder = first.folder.parent
    todo = _unfinished(found)
    spent = time.monotonic() - started
    console.print(
        f"sweep {folder.name}: {len(found)} jobs, {len(found) - len(todo)} need nothing, "
        f"{len(todo)} to run  ({spent:.1f}s)",
        markup=False,
    )

    def run_all() -> None:
        if todo and not monitor.stopped:
            _go(todo, monitor, folder)

    return _to_the_end(run_all, monitor, folder, selection)


def _search(course: SearchLoop, settings: Run, seeds: int) -> int:
    """Runs a search; returns the exit code.

    Args:
        course: The search, nothing of it done.
        settings: What its points share.
        seeds: Jobs of each trial.
    """
    course.check()
    propose.check()
    if settings.plan_only:
        print_plan([point for _, found in course.next() for point in found])
        return 0
    settings.cluster.check()
    trials, folder = course.search.trials, course.selection.folder
    monitor = SweepMonitor([], course.search.fail_fast, trials * seeds)
    course.selection.points = monitor.points
    console.print(f"search {folder.name}: {trials} settings, {seeds} jobs each", markup=False)

    def go(points: Sequence[SweepJob]) -> None:
        for point in points:
            if point.job is None:
                monitor.refuse(point)
        if (todo := _unfinished(points)) and not monitor.stopped:
            _go(todo, monitor, folder)
        signals.check()

    return _to_the_end(lambda: follow(course, monitor, go), monitor, folder, course.selection)


def _to_the_end(
    work: Callable[[], None], monitor: SweepMonitor, folder: Path, selection: Selection | None
) -> int:
    """Runs jobs, and says how they ended; returns the exit code."""
    title = f"sweep {folder.name}"
    with signals.catch_signals():
        try:
            work()
            signals.check()
        except KeyboardInterrupt:
            monitor.summary(title)
            raise
    monitor.summary(title)
    if selection is not None:
        selection.finish()
    print(f"sweep    {folder}")
    return monitor.code


def _go(todo: list[SweepJob], monitor: SweepMonitor, folder: Path) -> None:
    """Runs the unfinished jobs, while no other command does."""
    lock = locked(folder.parent, folder.name, f"sweep {folder.name}")
    with disk_errors(folder), lock:
        todo = _unfinished(todo)  # another command may have done it while this one waited
        for point in list(todo):
            try:
                refuse_other_configuration(point.planned)
            except UserError as error:
                point.mistake = error
                monitor.refuse(point)
                todo.remove(point)
                continue
            if point.written("status.json").get("status") != "waiting":
                Record(point.folder).status("waiting")
        if todo and not monitor.stopped:
            todo[0].planned.run.cluster.run(todo, monitor)


def _unfinished(found: Sequence[SweepJob]) -> list[SweepJob]:
    return [
        point for point in found if point.job is not None and point.refresh_status() == "waiting"
    ]


def run_one(found: PlannedJob, overrides: list[str]) -> int:
    """Runs a single job at a cluster; returns the exit code.

    Args:
        found: The job.
        overrides: The command line's.
    """
    found.run.cluster.check()
    point = SweepJob([], overrides, found)
    monitor = SweepMonitor([point])
    with signals.catch_signals(), disk_errors(point.folder):
        if point.refresh_status() == "waiting":
            Record(point.folder).status("waiting")
            found.run.cluster.run([point], monitor)
    monitor.summary(point.name)
    return monitor.code


def print_plan(found: Sequence[SweepJob]) -> None:
    """Prints what a sweep would compute: every stage once, and how many jobs want it."""
    stages: dict[str, tuple[str, str, bool, int]] = {}
    for point in (p for p in found if p.job is not None):
        store = point.planned.store
        for stage in point.planned.plan.stages:
            label, address, cached, count = stages.get(
                stage.key,
                (stage.label, f"{stage.kind}/{stage.key}", bool(store.manifest(stage)), 0),
            )
            stages[stage.key] = (label, address, cached, count + 1)
    finished = len(found) - len(_unfinished(found))
    title = f"plan of {len(found)} jobs, {finished} of them finished or impossible"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("stage", "key", "cached", "jobs"):
        table.add_column(column, no_wrap=True)
    for label, address, cached, count in stages.values():
        table.add_row(label, address, "yes" if cached else "no", str(count))
    results_console().print(table)
    for point in found:
        if point.mistake is not None:
            print(f"{point.name}: {point.mistake}", file=sys.stderr)
