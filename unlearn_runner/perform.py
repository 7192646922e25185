"""A planned job, performed by this process: stages in order, then what a run leaves for people."""

from __future__ import annotations

import hashlib
import json
import traceback
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from unlearn_runner.config import Run
from unlearn_runner.disk import refusal
from unlearn_runner.errors import UserError
from unlearn_runner.job import Job
from unlearn_runner.plan import Plan
from unlearn_runner.store import Store
from unlearn_runner.tracking.private import redacted

if TYPE_CHECKING:
    from unlearn_runner.records import Record
    from unlearn_runner.session import Session


def perform(
    job: Job, run: Run, stages: Plan, session: Session | None = None, brief: bool = False
) -> None:
    """Runs a planned job and leaves its run folder complete.

    Args:
        job: What was composed.
        run: The same, typed.
        stages: What it needs.
        session: This process's, when it is rank 0 of several.
        brief: Whether to leave what is printed at the end to the caller.
    """
    try:
        _perform(job, run, stages, session, brief)
    except OSError as error:
        if refused := refusal(error, job.folder):
            raise refused from error
        raise


def _perform(job: Job, run: Run, stages: Plan, session: Session | None, brief: bool) -> None:
    # Imported here: a plan or an error needs none of it.
    from unlearn_runner import interrupt, results
    from unlearn_runner.pipeline import WEIGHTS, execute
    from unlearn_runner.records import Record
    from unlearn_runner.stages import along

    folder, identity, store = job.folder, job.identity, Store(job.store, run.verify)
    config = redacted(job.config)  # what is written down holds no secret
    try:
        record = Record(folder)
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    except OSError as error:
        raise UserError(
            f"the run folder {folder} cannot be written: {error.strerror}",
            "output_dir=FOLDER on a disk you can write to",
        ) from None
    config_hash = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    record.mirror(run.tracker, config, [config_hash, *(stage.key for stage in stages.stages)])
    try:
        with interrupt.heeded():
            done = execute(stages, store, record, run.parallel, session)
    except KeyboardInterrupt as error:
        record.status("interrupted", signal=str(error) or "SIGINT", resume=results.command())
        raise
    except Exception as error:
        number = interrupt.requested()
        if session is not None and number and not isinstance(error, UserError):
            # The other ranks left at the signal, and their connections with them.
            name = interrupt.name(number)
            record.status("interrupted", signal=name, resume=results.command())
            raise interrupt.Interrupted(number) from error
        _failed(record, error)
        raise
    if run.keep == "scores":
        for item in done:
            if item.stage.kind == "unlearn":  # cached, too: a run that made it may have died
                store.drop(item.stage, WEIGHTS)
    by_model = results.scores(stages, store, done)
    content = results.content(run, stages, folder.name, config_hash, done, results.flat(by_model))
    content["provenance"]["choices"] = job.choices
    if session is not None:
        facts = {"ranks": session.ranks.world, "threads": session.threads}
        content["provenance"] |= facts
    if stages.along is not None and done[-1].outcome == "completed":
        content["along"] = along.read(store.path(stages.along))
    record.results(content)
    why = {"divergence": content["divergence"]} if "divergence" in content else {}
    record.status(content["status"], **why)
    if brief:
        return
    results.print_table(by_model, f"{folder.name}: {content['status']}")
    results.print_divergence(content.get("divergence", {}))
    results.print_along(content.get("along", []), by_model.get("unlearned", {}))
    print(f"results  {folder / 'results.json'}")
    for item in done:
        if item.stage.kind == "unlearn" and item.outcome == "completed" and run.keep != "scores":
            print(f"model    {store.path(item.stage)}")


def _failed(record: Record, error: Exception) -> None:
    """Leaves a failed run's status and, for what is no user's mistake, its traceback."""
    try:
        record.status("failed", error=f"{type(error).__name__}: {error}")
        if not isinstance(error, UserError):
            trace = record.folder / "traceback.txt"
            trace.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:  # a full disk, which may be what the error is about
        return
