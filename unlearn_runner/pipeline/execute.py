"""Executor: runs a plan's stages in order, each taken from the store or computed into it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.errors import ConfigError
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.store import EPHEMERAL, Store
from unlearn_runner.tracking import divergence
from unlearn_runner.tracking.folder import METRICS, last_by_step
from unlearn_runner.tracking.provenance import versions
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import append_line

if TYPE_CHECKING:
    from unlearn_runner.pipeline.session import Session


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
    """What is known of it where it diverged; see `tracking.divergence.evidence`."""


@dataclass
class Executor:
    """One run's way through its stages.

    Args:
        store: Where artifacts are.
        record: The run folder.
        parallel: How the machine is used.
        shared: This process's session, when it is rank 0 of several; the others are in `follow`.
    """

    store: Store
    record: Record
    parallel: Parallel
    shared: Session | None = None

    @cached_property
    def _opened(self) -> Session:
        # Imported here: a fully cached run never loads torch.
        from unlearn_runner.pipeline.session import open_session

        return open_session(self.parallel)

    def _session(self) -> Session:
        return self.shared or self._opened

    def run(self, plan: Plan) -> list[Done]:
        """Computes what the plan wants, and leaves the run folder's telemetry complete.

        Once a stage has diverged nothing more is computed: no score of the run would mean anything.
        """
        finished: list[Done] = []
        over, needed = diverged(plan, self.store), required_stages(plan, self.store)
        self.record.telemetry([])
        for number, stage in enumerate(plan.stages, 1):
            self.record.status("running", stage=stage.label, number=number, of=len(plan.stages))
            if over or stage.key not in needed:
                done = self._as_it_is(stage, over)
            else:
                keep = stage.kind != "unlearn" or stage in plan.wanted
                done = self.ensure_artifact(stage, needed[stage.key], keep)
            if not stage.given:
                self.record.stored(self._lines(stage))
            if done.outcome == "diverged":
                over = True
                done = replace(done, divergence=divergence.evidence(self._lines(stage)))
            finished.append(done)
            _say(done, number, len(plan.stages))
        if self.shared is not None:
            self.shared.ranks.broadcast_unbounded(None)
        self.record.telemetry(
            line for stage in plan.stages if not stage.given for line in self._lines(stage)
        )
        return finished

    def ensure_artifact(self, stage: Stage, load: bool = False, keep: bool = True) -> Done:
        """Takes a stage from the store, or computes and publishes it under its lock.

        Args:
            stage: What is wanted.
            load: Whether a stage is about to load the artifact; then every byte is checked.
            keep: Whether the run keeps all of it; if not, `store.drop` may remove weights later.
        """
        started = time.monotonic()
        manifest = self.store.manifest(stage, load)
        if manifest is not None and not (keep and manifest.get(EPHEMERAL)):
            return Done(stage, True, time.monotonic() - started, manifest["outcome"])
        if stage.given:  # fetched to where it belongs, never published
            here = self.store.root
            context = StageContext(
                here, here, stage.key, self.store.path, self._session, self.record.line
            )
            outcome = self._compute(stage, context)
            return Done(stage, False, time.monotonic() - started, outcome)

        waited: list[str] = []

        def waits(words: str) -> None:
            waited.append(words)
            self.record.status("waiting", stage=stage.label, waits_for=words)

        with self.store.locked(stage, waits):
            if waited:
                self.record.status("running", stage=stage.label)
            # Another process may have published it while this one waited.
            manifest = self.store.manifest(stage, load)
            if manifest is not None:
                if keep:
                    self.store.keep(stage, manifest)
                return Done(stage, True, time.monotonic() - started, manifest["outcome"])
            outcome, seconds = self._publish(stage, keep, started)
        return Done(stage, False, seconds, outcome)

    def _publish(self, stage: Stage, keep: bool, started: float) -> tuple[Outcome, float]:
        """Computes a stage whose lock is held; returns how it ended and the seconds it took."""
        ephemeral = not keep and self.store.is_ephemeral(stage)
        if fault := self.store.fault(stage):
            warning = f"{self.store.path(stage)} is damaged and is computed again: {fault}"
            console.print(f"warning: {warning}", markup=False)
        building = self.store.begin(stage)
        lines = building.checkpoints / METRICS

        def log(facts: dict[str, Any]) -> None:
            append_line(lines, facts)
            self.record.line(facts, lines)

        place, checkpoints = building.folder, building.checkpoints
        context = StageContext(place, checkpoints, stage.key, self.store.path, self._session, log)
        outcome = self._compute(stage, context)
        if telemetry := last_by_step(lines):
            (building.folder / METRICS).write_text("".join(telemetry), encoding="utf-8")
        seconds = time.monotonic() - started
        facts = {"seconds": round(seconds, 3), "versions": versions()}
        facts |= {EPHEMERAL: True} if ephemeral else {}
        self.store.publish(stage, building, outcome, facts)
        return outcome, seconds

    def _compute(self, stage: Stage, context: StageContext) -> Outcome:
        if self.shared is not None and stage.on_all_ranks:
            self.shared.ranks.broadcast_unbounded((stage.key, context.folder, context.checkpoints))
        return stage.run(context)

    def _as_it_is(self, stage: Stage, over: bool) -> Done:
        """Returns what the store has of a stage that nothing is computed for."""
        manifest = self.store.manifest(stage)
        if manifest is not None:
            return Done(stage, True, 0.0, manifest["outcome"])
        return Done(stage, False, 0.0, None if over else "completed", needed=over)

    def _lines(self, stage: Stage) -> list[str]:
        """Returns a stage's telemetry; empty where it has left none."""
        return last_by_step(self.store.path(stage) / METRICS)


def follow(plan: Plan, store: Store, session: Session) -> None:
    """Runs, as a rank other than 0, the stages that rank 0 says, until it says no more.

    Raises:
        ConfigError: If it says one that this rank did not plan.
    """
    stages = {stage.key: stage for stage in plan.stages}
    while order := session.ranks.broadcast_unbounded(cast(tuple[str, Path, Path] | None, None)):
        key, folder, checkpoints = order
        if key not in stages:
            raise ConfigError(
                f"rank {session.ranks.rank} planned other stages than rank 0",
                "the same code and data files on every machine",
            )
        stages[key].run(
            StageContext(folder, checkpoints, key, store.path, lambda: session, lambda _: None)
        )


def required_stages(plan: Plan, store: Store) -> dict[str, bool]:
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
    required = required_stages(plan, store)
    return all(store.manifest(stages[key], load) for key, load in required.items())


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
