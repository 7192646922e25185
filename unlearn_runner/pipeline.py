"""Runs a plan's stages in order, each taken from the store or computed into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unlearn_runner import divergence
from unlearn_runner.errors import ConfigError
from unlearn_runner.parallel.base import Parallel
from unlearn_runner.plan import Plan
from unlearn_runner.progress import console
from unlearn_runner.records import METRICS, Record, append_line, last_by_step, versions
from unlearn_runner.stages.base import Outcome, Stage, Work
from unlearn_runner.store import PASSING, Store

if TYPE_CHECKING:
    from unlearn_runner.session import Session


WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class Done:
    """How one stage of a run ended."""

    stage: Stage
    cached: bool
    seconds: float
    outcome: Outcome | None
    """None when the stage was skipped because another one diverged."""
    needed: bool = True
    """False when it is not in the store, and nothing had to be computed that reads it."""
    divergence: Mapping[str, Any] = field(default_factory=dict)
    """What is known of it where it diverged; see `divergence.evidence`."""


def execute(
    plan: Plan,
    store: Store,
    record: Record,
    parallel: Parallel,
    session: Session | None = None,
) -> list[Done]:
    """Brings about what the plan wants, and leaves the run folder's telemetry complete.

    Once a stage has diverged nothing more is computed: no score of the run would mean anything.

    Args:
        plan: What is wanted.
        store: Where artifacts are.
        record: The run folder.
        parallel: How the machine is used.
        session: This process's, when it is rank 0 of several; the others are in `follow`.
    """
    finished: list[Done] = []
    over, needed = diverged(plan, store), demanded(plan, store)
    record.telemetry([])
    open_once = _opener(parallel) if session is None else lambda: session
    for number, stage in enumerate(plan.stages, 1):
        record.status("running", stage=stage.label, number=number, of=len(plan.stages))
        if over or stage.key not in needed:
            done = _as_it_is(stage, store, over)
        else:
            keep = stage.kind != "unlearn" or stage in plan.wanted
            done = bring_about(stage, store, record, open_once, needed[stage.key], session, keep)
        if not stage.given:
            record.stored(last_by_step(store.path(stage) / METRICS))
        if done.outcome == "diverged":
            over = True
            lines = last_by_step(store.path(stage) / METRICS)
            done = replace(done, divergence=divergence.evidence(lines))
        finished.append(done)
        _say(done, number, len(plan.stages))
    if session is not None:
        session.ranks.announced(None)
    record.telemetry(
        line for s in plan.stages if not s.given for line in last_by_step(store.path(s) / METRICS)
    )
    return finished


def follow(plan: Plan, store: Store, session: Session) -> None:
    """Runs, as a rank other than 0, the stages that rank 0 says, until it says no more.

    Raises:
        ConfigError: If it says one that this rank did not plan.
    """
    stages = {stage.key: stage for stage in plan.stages}
    while order := session.ranks.announced(cast(tuple[str, Path, Path] | None, None)):
        key, folder, checkpoints = order
        if key not in stages:
            raise ConfigError(
                f"rank {session.ranks.rank} planned other stages than rank 0",
                "the same code and data files on every machine",
            )
        stages[key].run(Work(folder, checkpoints, key, store.path, lambda: session, lambda _: None))


def demanded(plan: Plan, store: Store) -> dict[str, bool]:
    """Returns the keys of the stages that must be there, each with whether it will be loaded.

    Demand goes backwards from what the plan wants: what a stored score was computed from is not
    computed again, nor must it still be there. A run that has diverged demands nothing.
    """
    found: dict[str, bool] = {}
    if diverged(plan, store):
        return found

    def demand(stage: Stage, loaded: bool) -> None:
        if found.get(stage.key) is not None and found[stage.key] >= loaded:
            return
        found[stage.key] = loaded
        if store.manifest(stage, loaded) is None:
            for read in stage.inputs:
                demand(read, True)

    for stage in plan.wanted:
        demand(stage, stage.kind == "unlearn")
    return found


def diverged(plan: Plan, store: Store) -> bool:
    """Returns whether one of the plan's stages is known to diverge."""
    found = (store.manifest(stage) for stage in plan.stages)
    return any(manifest["outcome"] == "diverged" for manifest in found if manifest is not None)


def complete(plan: Plan, store: Store) -> bool:
    """Returns whether everything that is wanted is there, so that nothing will be computed."""
    stages = {stage.key: stage for stage in plan.stages}
    return all(store.manifest(stages[k], load) for k, load in demanded(plan, store).items())


def bring_about(
    stage: Stage,
    store: Store,
    record: Record,
    open_session: Callable[[], Session],
    load: bool = False,
    session: Session | None = None,
    keep: bool = True,
) -> Done:
    """Takes a stage from the store, or computes and publishes it under its lock.

    Args:
        stage: What is wanted.
        store: Where it is, or will be.
        record: Takes the telemetry.
        open_session: Opens the device when something must be computed.
        load: Whether a stage is about to load the artifact; then every byte is checked.
        session: This process's, when it is rank 0 of several.
        keep: Whether the run keeps all of it; if not, `store.drop` may remove weights later.
    """
    started = time.monotonic()
    manifest = store.manifest(stage, load)
    if manifest is not None and not (keep and manifest.get(PASSING)):
        return Done(stage, True, time.monotonic() - started, manifest["outcome"])
    if stage.given:  # fetched to where it belongs, never published
        here = store.root
        work = Work(here, here, stage.key, store.path, open_session, record.line)
        outcome = _compute(stage, work, session)
        return Done(stage, False, time.monotonic() - started, outcome)

    waited: list[str] = []

    def waits(words: str) -> None:
        waited.append(words)
        record.status("waiting", stage=stage.label, waits_for=words)

    with store.locked(stage, waits):
        if waited:
            record.status("running", stage=stage.label)
        # Another process may have published it while this one waited.
        manifest = store.manifest(stage, load)
        if manifest is not None:
            if keep:
                store.keep(stage, manifest)
            return Done(stage, True, time.monotonic() - started, manifest["outcome"])
        passing = not keep and store.passes(stage)
        if fault := store.fault(stage):
            warning = f"{store.path(stage)} is damaged and is computed again: {fault}"
            console.print(f"warning: {warning}", markup=False)
        building = store.begin(stage)
        lines = building.checkpoints / METRICS

        def log(facts: dict[str, Any]) -> None:
            append_line(lines, facts)
            record.line(facts, lines)

        work = Work(building.folder, building.checkpoints, stage.key, store.path, open_session, log)
        outcome = _compute(stage, work, session)
        if telemetry := last_by_step(lines):
            (building.folder / METRICS).write_text("".join(telemetry), encoding="utf-8")
        seconds = time.monotonic() - started
        facts = {"seconds": round(seconds, 3), "versions": versions()}
        facts |= {PASSING: True} if passing else {}
        store.publish(stage, building, outcome, facts)
    return Done(stage, False, seconds, outcome)


def _as_it_is(stage: Stage, store: Store, over: bool) -> Done:
    """Returns what the store has of a stage that nothing is computed for."""
    manifest = store.manifest(stage)
    if manifest is not None:
        return Done(stage, True, 0.0, manifest["outcome"])
    return Done(stage, False, 0.0, None if over else "completed", needed=over)


def _compute(stage: Stage, work: Work, session: Session | None) -> Outcome:
    if session is not None and stage.on_all_ranks:
        session.ranks.announced((stage.key, work.folder, work.checkpoints))
    return stage.run(work)


def _opener(parallel: Parallel) -> Callable[[], Session]:
    @cache
    def open_once() -> Session:
        # Imported here: a fully cached run never loads torch.
        from unlearn_runner.session import open_session

        return open_session(parallel)

    return open_once


def _say(done: Done, number: int, total: int) -> None:
    how = f"{done.seconds:.1f}s"
    if not done.needed:
        how = "not needed"
    elif done.outcome is None:
        how = "skipped: the run diverged"
    elif done.cached:
        how = "given" if done.stage.given else "cached"
    if done.outcome == "diverged":
        how += f", diverged: {done.divergence.get('cause', 'no cause recorded')}"
    stage = done.stage
    console.print(
        f"[{number}/{total}] {stage.label:<20} {stage.kind}/{stage.key}  {how}", markup=False
    )
