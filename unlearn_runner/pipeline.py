"""Runs a plan's stages in order, each taken from the store or computed into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from unlearn_runner.parallel.base import Parallel
from unlearn_runner.plan import Plan
from unlearn_runner.progress import console
from unlearn_runner.records import METRICS, Record, append_line, last_by_step, versions
from unlearn_runner.stages.base import Outcome, Stage, Work
from unlearn_runner.store import Store

if TYPE_CHECKING:
    from unlearn_runner.session import Session


@dataclass(frozen=True)
class Done:
    """How one stage of a run ended."""

    stage: Stage
    cached: bool
    seconds: float
    outcome: Outcome | None
    """None when the stage was skipped because something it reads diverged."""


def execute(plan: Plan, store: Store, record: Record, parallel: Parallel) -> list[Done]:
    """Brings every stage of the plan about, and leaves the run folder's telemetry complete."""
    finished: list[Done] = []
    outcomes: dict[str, Outcome | None] = {}
    record.telemetry([])
    open_once = _opener(parallel)
    for number, stage in enumerate(plan.stages, 1):
        record.status("running", stage=stage.label, number=number, of=len(plan.stages))
        if any(outcomes[read.key] != "completed" for read in stage.inputs):
            done = Done(stage, False, 0.0, None)
        else:
            done = bring_about(stage, store, record, open_once)
        finished.append(done)
        outcomes[stage.key] = done.outcome
        _say(done, number, len(plan.stages))
    record.telemetry(line for s in plan.stages for line in last_by_step(store.path(s) / METRICS))
    return finished


def bring_about(
    stage: Stage, store: Store, record: Record, open_session: Callable[[], Session]
) -> Done:
    """Takes a stage from the store, or computes and publishes it under its lock."""
    started = time.monotonic()
    manifest = store.manifest(stage)
    if manifest is not None:
        return Done(stage, True, time.monotonic() - started, manifest["outcome"])
    with store.locked(stage):
        # Another process may have published it while this one waited.
        manifest = store.manifest(stage)
        if manifest is not None:
            return Done(stage, True, time.monotonic() - started, manifest["outcome"])
        if store.damaged(stage):
            console.print(f"warning: {store.path(stage)} is damaged and is computed again")
        building = store.begin(stage)
        lines = building.checkpoints / METRICS

        def log(facts: dict[str, Any]) -> None:
            append_line(lines, facts)
            record.line(facts, lines)

        work = Work(building.folder, building.checkpoints, store.path, open_session, log)
        outcome = stage.run(work)
        if telemetry := last_by_step(lines):
            (building.folder / METRICS).write_text("".join(telemetry), encoding="utf-8")
        seconds = time.monotonic() - started
        store.publish(
            stage, building, outcome, {"seconds": round(seconds, 3), "versions": versions()}
        )
    return Done(stage, False, seconds, outcome)


def _opener(parallel: Parallel) -> Callable[[], Session]:
    @cache
    def open_once() -> Session:
        # Imported here: a fully cached run never loads torch.
        from unlearn_runner.session import open_session

        return open_session(parallel)

    return open_once


def _say(done: Done, number: int, total: int) -> None:
    how = f"{done.seconds:.1f}s"
    if done.outcome is None:
        how = "skipped: what it reads diverged"
    elif done.cached:
        how = "cached"
    elif done.outcome == "diverged":
        how += ", diverged"
    stage = done.stage
    console.print(
        f"[{number}/{total}] {stage.label:<20} {stage.kind}/{stage.key}  {how}", markup=False
    )
