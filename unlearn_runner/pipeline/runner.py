"""Runner of one planned job, in this process or in ranks that are its children.

`start_job` decides where; `run_job` opens the run folder, executes the stages and writes what they
came to. On other ranks than 0 `serve` follows instead.
"""

from __future__ import annotations

import traceback
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from unlearn_runner.distributed import external, launch
from unlearn_runner.distributed.clusters.spec import LOG
from unlearn_runner.errors import UserError
from unlearn_runner.models.folder import is_adapter
from unlearn_runner.pipeline.execute import Executor, StageResult, complete, follow
from unlearn_runner.pipeline.job import (
    CONFIG,
    ComposedJob,
    PlannedJob,
    plan_job,
    refuse_other_configuration,
)
from unlearn_runner.pipeline.stages.base import MADE
from unlearn_runner.store.store import WEIGHTS
from unlearn_runner.tracking.folder import RESULTS
from unlearn_runner.utils.console import logged, note, say
from unlearn_runner.utils.disk import disk_errors
from unlearn_runner.utils.files import write_text
from unlearn_runner.utils.process import TRACEBACK, command
from unlearn_runner.utils.redact import redacted

if TYPE_CHECKING:
    from unlearn_runner.pipeline.session import Session
    from unlearn_runner.tracking.record import Record

WORKER = "unlearn_runner.pipeline.worker"
"""What each rank runs."""


def start_job(job: PlannedJob, brief: bool = False) -> int:
    """Runs a job in this process, or in ranks that are its children; returns the exit code.

    Where `brief`, the table of its scores is left to the caller.

    Raises:
        UserError: If its run folder belongs to another configuration, or the machine refuses.
        Interrupted: If a signal ended it.
    """
    refuse_other_configuration(job)
    parallel = job.run.parallel
    if external.world():
        external.check(parallel, job.run.train.precision)
        serve(job.composed)
        return 0
    if parallel.starts_ranks and not complete(job.plan, job.store):
        resume = command(job.composed.arguments)

        def note_failure(cause: str, printed: str) -> None:
            from unlearn_runner.tracking.record import Record

            try:
                Record(job.folder).status("failed", error=cause, resume=resume)
                if printed:
                    (job.folder / "traceback.txt").write_text(printed, encoding="utf-8")
            except OSError:  # the disk may be what it is about
                return

        ranks = launch.Launch(WORKER, job.composed.text(), resume, note_failure)
        return launch.start(ranks, parallel)
    if (parallel.node_rank or 0) == 0:
        run_job(job, brief=brief)
    return 0


def serve(composed: ComposedJob) -> None:
    """Takes part in a job, as the rank that the environment names."""
    from unlearn_runner.pipeline.session import open_session
    from unlearn_runner.utils.console import console

    job = plan_job(composed)
    is_main = external.main_rank()
    if not is_main:
        console.quiet = True  # one of many that do the same work
    session = open_session(job.run.parallel)
    # Rank 0 decides for all: another might look at the store later, and see more.
    if session.ranks.broadcast_unbounded(complete(job.plan, job.store)):
        session = None
    if is_main:
        run_job(job, session)
    elif session is not None:
        follow(job.plan, job.store, session)


def run_job(job: PlannedJob, session: Session | None = None, brief: bool = False) -> None:
    """Runs a planned job in this process and leaves its run folder complete.

    Takes this process's session when it is rank 0 of several; prints no scores where `brief`.
    """
    with disk_errors(job.folder), ExitStack() as files:
        job.folder.mkdir(parents=True, exist_ok=True)
        files.enter_context(logged(job.folder / LOG))
        note(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {command(job.composed.arguments)}")
        record = _open_record(job)
        if repository := job.run.push_to_hub:
            from unlearn_runner.pipeline import hub

            if reason := hub.obstacle():
                say(f"push_to_hub={repository}: not possible now ({reason}); the run goes on")
        done = _execute(job, record, session)
        if job.run.keep == "scores":
            for result in done:
                if result.stage.kind in MADE:  # cached, too: a run that made it may have died
                    job.store.drop(result.stage, WEIGHTS)
        _finish(job, record, done, session, brief)


def _open_record(job: PlannedJob) -> Record:
    """Opens the run folder and its mirror."""
    from unlearn_runner.report.answers import run_answers
    from unlearn_runner.report.build import run_figures
    from unlearn_runner.tracking.record import Record

    record = Record(job.folder)
    write_text(job.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(job.config)))
    job.store.note_user(job.composed.outputs)
    parts = [job.config_hash, *(stage.key for stage in job.plan.stages)]
    # Short names to group by: which option of each group was chosen.
    config = {**job.config, "choices": redacted(job.composed.choices)}
    record.mirror(job.run.tracker, config, parts, run_figures, run_answers)
    return record


def _execute(job: PlannedJob, record: Record, session: Session | None) -> list[StageResult]:
    """Runs the stages; a signal or a failure leaves its status in the run folder."""
    from unlearn_runner.utils import signals

    try:
        with signals.catch_signals():
            return Executor(job.store, record, job.run.parallel, session).run(job.plan)
    except KeyboardInterrupt as error:
        record.status("interrupted", signal=str(error) or "SIGINT", resume=command())
        note(f"interrupted; to continue: {command()}")
        raise
    except Exception as error:
        number = signals.requested()
        if session is not None and number and not isinstance(error, UserError):
            # The other ranks left at the signal, and their connections with them.
            record.status("interrupted", signal=signals.name(number), resume=command())
            raise signals.Interrupted(number) from error
        _failed(record, error)
        note(f"failed: {type(error).__name__}: {error}")
        raise


def _finish(
    job: PlannedJob, record: Record, done: list[StageResult], session: Session | None, brief: bool
) -> None:
    """Writes and prints what the run came to."""
    from unlearn_runner.pipeline import attacking, geffect, results, tables
    from unlearn_runner.pipeline.stages import score_files as score

    store = job.store
    by_model = results.scores(job.plan, store, done)
    content: dict[str, Any] = results.content(job, done, results.flat(by_model))
    if session is not None:
        content["provenance"] |= {"ranks": session.ranks.world, "threads": session.threads}
    if job.plan.trajectory is not None and done[-1].outcome == "completed":
        content["along"] = score.read(store.path(job.plan.trajectory), score.ALONG)
    if job.plan.turns is not None and done[-1].outcome == "completed":
        content["requests"] = score.read(store.path(job.plan.turns), score.TURNS)
    tables_copied = geffect.copy_tables(job, done)
    if (judged := job.plan.attack) is not None and done[-1].outcome == "completed":
        place = attacking.copy_verdict(job.run.attack, store.path(judged), job.folder)
        tables_copied.append(place)
    record.results(content)
    record.status(content["status"], **{k: content[k] for k in ("divergence",) if k in content})
    own = [
        r.stage for r in done if r.stage.key == job.plan.unlearn.key and r.outcome == "completed"
    ]
    kept = [s for s in own if s.kind == "unlearn" and job.run.keep != "scores"]
    for stage in kept:
        _publish(job, store.path(stage), content)
    if brief:
        return
    title = f"{job.folder.name}: {content['status']}"
    tables.print_table(by_model, title, content["directions"])
    tables.print_divergence(content.get("divergence", {}))
    tables.print_trajectory(content.get("along", []), by_model.get("unlearned", {}))
    tables.print_turns(content.get("requests", []))
    for verdict in content.get("notes", []):
        say(f"note     {verdict}")
    say(f"results  {job.folder / RESULTS}")
    for stage in kept:
        say(f"model    {store.path(stage)}")
    for path in tables_copied:
        say(f"measured {path}")


def _publish(job: PlannedJob, folder: Path, content: dict[str, Any]) -> None:
    """Leaves an unlearned model's card beside it, and uploads both where that is wanted."""
    from unlearn_runner.pipeline import card, hub

    write_text(folder / card.FILE, card.card(job, content, is_adapter(folder)))
    if repository := job.run.push_to_hub:
        reason = hub.obstacle() or hub.push(
            folder, repository, f"{job.folder.name} of unlearn-runner"
        )
        again = f"not pushed: {reason}; the same command tries again" if reason else "pushed"
        say(f"hub      {repository}: {again}")


def _failed(record: Record, error: Exception) -> None:
    """Leaves a failed run's status and, for what is no user's mistake, its traceback."""
    try:
        record.status("failed", error=f"{type(error).__name__}: {error}")
        if not isinstance(error, UserError):
            trace = record.folder / "traceback.txt"
            write_text(trace, redacted(traceback.format_exc()))
            error.add_note(f"{TRACEBACK}{trace}")
    except OSError:  # a full disk, which may be what the error is about
        return
