"""Sweep from its command to its table: plan all jobs, run those that are not finished.

Job folders are named by their overrides, so that the same command finds what it left: what is
finished is skipped, what was interrupted is continued, what failed is tried again.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Column

from unlearn_runner.config.command_line import CommandLine
from unlearn_runner.config.root import Run
from unlearn_runner.errors import ConfigError, UserError
from unlearn_runner.pipeline.inputs import Rowsets
from unlearn_runner.pipeline.job import PlannedJob, refuse_other_configuration
from unlearn_runner.sweeps.grid import Grid
from unlearn_runner.sweeps.jobs import SweepJob, planned_jobs, same_mistake
from unlearn_runner.sweeps.monitor import SweepMonitor
from unlearn_runner.sweeps.search import SearchLoop
from unlearn_runner.sweeps.selection import Selection, prepare_selection
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils import signals
from unlearn_runner.utils.columns import TitledTable
from unlearn_runner.utils.console import console, results_console
from unlearn_runner.utils.disk import disk_errors
from unlearn_runner.utils.locks import OWNER, locked


def run(command: CommandLine) -> int:
    """Runs the sweep of a checked command line; returns the exit code.

    Raises:
        UserError: For a mistake that all jobs share; nothing is written then.
        Interrupted: If a signal ended it.
    """
    started = time.monotonic()
    read: dict[str, Rowsets] = {}
    with Grid(command.overrides, command.folders).opened() as grid:
        found = planned_jobs(grid, [], read)
    if (mistake := same_mistake(found)) is not None:
        raise mistake
    first = next(job for job in found if job.valid)
    settings, search = first.planned.run, first.planned.run.sweep.search
    selection = prepare_selection(settings.sweep.select, found)
    if search is not None and selection is not None:
        _refuse_one_repository([*found, *found])
        return _search(SearchLoop(grid, search, selection, read), settings, len(found))
    _refuse_one_repository(found)
    if settings.plan_only:
        print_plan(found)
        return 0
    settings.cluster.check()
    monitor, folder = SweepMonitor(found, settings.sweep.fail_fast), first.folder.parent
    count = len(_unfinished(found))
    spent = time.monotonic() - started
    console.print(
        f"sweep {folder.name}: {len(found)} jobs, {len(found) - count} need nothing, "
        f"{count} to run  ({spent:.1f}s)",
        markup=False,
    )
    return _run_and_report(
        lambda: _run_unfinished(found, monitor, folder), monitor, folder, selection
    )


def _refuse_one_repository(found: Sequence[SweepJob]) -> None:
    """Refuses jobs that would upload their models over each other's.

    Raises:
        ConfigError: If two of them name one repository.
    """
    named = Counter(job.planned.run.push_to_hub for job in found if job.valid)
    repository = next((name for name, jobs in named.items() if name and jobs > 1), None)
    if repository is not None:
        raise ConfigError(
            f"push_to_hub={repository}: {named[repository]} jobs would upload their models there, "
            "each over the last",
            "push_to_hub=null, and push_to_hub=OWNER/NAME with the command of the chosen run",
        )


def _search(loop: SearchLoop, settings: Run, seeds: int) -> int:
    """Runs a search, whose trials are `seeds` jobs each; returns the exit code."""
    loop.check()
    if settings.plan_only:
        print_plan([job for _, found in loop.next() for job in found])
        return 0
    settings.cluster.check()
    trials, folder = loop.search.trials, loop.selection.folder
    monitor = SweepMonitor([], loop.search.fail_fast, trials * seeds)
    loop.selection.jobs = monitor.jobs
    console.print(f"search {folder.name}: {trials} settings, {seeds} jobs each", markup=False)

    def run_all() -> None:
        loop.run(monitor, lambda jobs: _run_unfinished(jobs, monitor, folder))

    return _run_and_report(run_all, monitor, folder, loop.selection)


def _run_and_report(
    work: Callable[[], None], monitor: SweepMonitor, folder: Path, selection: Selection | None
) -> int:
    """Runs jobs, and prints how they ended; returns the exit code."""
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


def _run_unfinished(jobs: Sequence[SweepJob], monitor: SweepMonitor, folder: Path) -> None:
    """Runs the unfinished ones of some jobs, while no other command does."""
    for job in jobs:
        if not job.valid:
            monitor.refuse(job)
    # A command that was killed after its last job has left its note beside the lock.
    left = (folder.parent / f".{folder.name}{OWNER}").exists()
    if monitor.stopped or not (_unfinished(jobs) or left):
        return
    lock = locked(folder.parent, folder.name, f"sweep {folder.name}")
    with disk_errors(folder), lock:
        todo = _unfinished(jobs)  # another command may have done it while this one waited
        for job in list(todo):
            try:
                refuse_other_configuration(job.planned)
            except UserError as error:
                job.mistake = error
                monitor.refuse(job)
                todo.remove(job)
                continue
            if job.written("status.json").get("status") != "waiting":
                Record(job.folder).status("waiting")
        if todo and not monitor.stopped:
            todo[0].planned.run.cluster.run(todo, monitor)


def _unfinished(found: Sequence[SweepJob]) -> list[SweepJob]:
    return [job for job in found if job.valid and job.refresh_status() == "waiting"]


def run_one(planned: PlannedJob, overrides: list[str]) -> int:
    """Runs a single job at a cluster, which gets its overrides; returns the exit code."""
    planned.run.cluster.check()
    job = SweepJob([], overrides, planned)
    monitor = SweepMonitor([job])
    with signals.catch_signals(), disk_errors(job.folder):
        if job.refresh_status() == "waiting":
            Record(job.folder).status("waiting")
            planned.run.cluster.run([job], monitor)
    monitor.summary(job.name)
    return monitor.code


def print_plan(found: Sequence[SweepJob]) -> None:
    """Prints what a sweep would compute: every stage once, and how many jobs want it."""
    planned = [job.planned for job in found if job.valid]
    count = Counter(stage.key for job in planned for stage in job.plan.stages)
    stages = {stage.key: (stage, job.store) for job in planned[::-1] for stage in job.plan.stages}
    finished = len(found) - len(_unfinished(found))
    title = f"plan of {len(found)} jobs, {finished} of them finished or impossible"
    columns = [Column(name, no_wrap=True) for name in ("stage", "key", "cached", "jobs")]
    table = TitledTable(title, *columns)
    for key, number in count.items():
        stage, store = stages[key]
        cached = "yes" if store.manifest(stage) else "no"
        table.add_row(stage.label, f"{stage.kind}/{key}", cached, str(number))
    results_console().print(table)
    for job in found:
        if job.mistake is not None:
            print(f"{job.name}: {job.mistake}", file=sys.stderr)
