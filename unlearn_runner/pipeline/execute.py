"""Executor: runs a plan's stages in order, each taken from the store or computed into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.errors import ConfigError, UserError
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.stages.base import MADE, Stage, StageContext
from unlearn_runner.report.status_table import duration
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.store import EPHEMERAL, Store
from unlearn_runner.tracking import divergence
from unlearn_runner.tracking.folder import METRICS, last_by_step
from unlearn_runner.tracking.provenance import versions
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import append_line
from unlearn_runner.utils.untrusted import is_number

if TYPE_CHECKING:
    from unlearn_runner.pipeline.session import Session


PASSES = 3
"""Times that a run goes through its stages while others remove what it needs."""
AGAIN = "the same command makes it again; let no unlearn-store gc run beside it"


@dataclass(frozen=True)
class StageResult:
    """One stage of a run, and how it ended."""

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
    """Runner of one plan's stages: owns the store, the run folder and this process's session.

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
    def _session(self) -> Session:
        # Imported here: a fully cached run never loads torch.
        from unlearn_runner.pipeline.session import open_session

        return self.shared or open_session(self.parallel)

    def run(self, plan: Plan) -> list[StageResult]:
        """Computes what the plan wants, and leaves the run folder's telemetry complete.

        What another process removes meanwhile is made again, by going through the stages again.

        Raises:
            UserError: If something was removed that other ranks were about to read.
        """
        results: dict[str, StageResult] = {}
        for passes in range(1, PASSES + 1):
            stored: dict[str, bool] = {}
            try:
                self._run_stages(plan, results, stored)
            except Exception as error:
                vanished = self._vanished(plan, stored)
                if not vanished:
                    raise
                if passes == PASSES or self.shared is not None:
                    raise UserError(vanished, AGAIN) from error
            else:
                wanted = {stage.key: False for stage in plan.wanted if stage.key in stored}
                vanished = self._vanished(plan, wanted)
                if not vanished:
                    break
                if passes == PASSES:
                    raise UserError(vanished, AGAIN)
            console.print(f"warning: {vanished}; it is made again", markup=False)
        if self.shared is not None:
            self.shared.ranks.broadcast_unbounded(None)
        self.record.telemetry(
            line for stage in plan.stages if not stage.given for line in self._lines(stage)
        )
        return [results[stage.key] for stage in plan.stages]

    def _run_stages(
        self, plan: Plan, results: dict[str, StageResult], stored: dict[str, bool]
    ) -> None:
        """Goes through the stages once; adds the results, and what is now stored (to be loaded?).

        Once a stage has diverged nothing more is computed: no score of the run would mean anything.
        """
        over, required = diverged(plan, self.store), required_stages(plan, self.store)
        self.record.telemetry([])
        left = list(plan.stages)
        while left:
            stage = left[0] if over else self._next(left, required)
            left.remove(stage)
            number = plan.stages.index(stage) + 1
            self.record.status("running", stage=stage.label, number=number, of=len(plan.stages))
            if over or stage.key not in required:
                result = self._uncomputed(stage, over)
            else:
                keep = stage.kind not in MADE or stage in plan.wanted
                result = self.ensure_artifact(stage, required[stage.key], keep)
                stored[stage.key] = required[stage.key]
            if not stage.given:
                self.record.stored(self._lines(stage))
            if result.outcome == "diverged":
                over = True
                result = replace(result, divergence=divergence.evidence(self._lines(stage)))
            about = "" if over or result.cached else self._time_left(plan, left, required)
            _print_result(result, number, len(plan.stages), about)
            before = results.get(stage.key)
            # Of two passes, the one that computed it.
            if before is None or before.cached or not result.cached:
                results[stage.key] = result

    def _time_left(self, plan: Plan, left: Sequence[Stage], required: Mapping[str, bool]) -> str:
        """Returns what stages to come will take, by what the last of their kind took, in words."""
        manifests = {stage.key: self.store.manifest(stage) or {} for stage in plan.stages}
        found = ((stage.kind, manifests[stage.key].get("seconds")) for stage in plan.stages)
        taken = {kind: seconds for kind, seconds in found if is_number(seconds)}
        coming = [s for s in left if s.key in required and not s.given and not manifests[s.key]]
        known = [taken[stage.kind] for stage in coming if stage.kind in taken]
        if not known:
            return ""
        word = "about" if len(known) == len(coming) else "more than"
        return f", {word} {duration(sum(known))} left"

    def _next(self, left: Sequence[Stage], required: Mapping[str, bool]) -> Stage:
        """Returns the stage to go on with: the first, or one that need not wait for a process.

        Two jobs that start together on an empty store fine-tune one model each, not one together.
        """
        first = left[0]
        if first.given or first.key not in required or not self._busy(first):
            return first
        free = (
            stage
            for stage in left[1:]
            if stage.key in required
            and not stage.given
            and all(self.store.manifest(read) for read in stage.inputs)
            and self.store.manifest(stage) is None
            and not self._busy(stage)
        )
        return next(free, first)

    def _busy(self, stage: Stage) -> bool:
        """Whether another process works on a stage."""
        return self.store.manifest(stage) is None and self.store.is_locked(stage)

    def _vanished(self, plan: Plan, stored: Mapping[str, bool]) -> str:
        """Returns which artifacts are no longer stored whole, in words; empty where all are."""
        ours = (stage for stage in plan.stages if stage.key in stored and not stage.given)
        gone = [stage for stage in ours if self.store.manifest(stage, stored[stage.key]) is None]
        names = ", ".join(f"{stage.label} ({stage.kind}/{stage.key})" for stage in gone)
        return names and f"{names} has vanished from the store {self.store.root} during the run"

    def ensure_artifact(self, stage: Stage, load: bool = False, keep: bool = True) -> StageResult:
        """Takes a stage from the store, or computes and publishes it under its lock.

        Args:
            stage: What is wanted.
            load: Whether a stage is about to load the artifact; then every byte is checked.
            keep: Whether the run keeps all of it; if not, `store.drop` may remove weights later.
        """
        started = time.monotonic()
        manifest = self.store.manifest(stage, load)
        if manifest is not None and not (keep and manifest.get(EPHEMERAL)):
            return StageResult(stage, True, time.monotonic() - started, manifest["outcome"])
        if stage.given:  # fetched to where it belongs, never published
            outcome = self._compute(stage, self.store.root, self.store.root, self.record.line)
            return StageResult(stage, False, time.monotonic() - started, outcome)

        waited: list[str] = []

        def on_wait(lock: str) -> None:
            waited.append(lock)
            self.record.status("waiting", stage=stage.label, waits_for=lock)

        with self.store.locked(stage, on_wait):
            if waited:
                self.record.status("running", stage=stage.label)
            # Another process may have published it while this one waited.
            manifest = self.store.manifest(stage, load)
            if manifest is not None:
                if keep:
                    self.store.keep(stage, manifest)
                return StageResult(stage, True, time.monotonic() - started, manifest["outcome"])
            return self._publish(stage, keep, started)

    def _publish(self, stage: Stage, keep: bool, started: float) -> StageResult:
        """Computes a stage whose lock is held."""
        ephemeral = not keep and self.store.is_ephemeral(stage)
        if fault := self.store.fault(stage):
            warning = f"{self.store.path(stage)} is damaged and is computed again: {fault}"
            console.print(f"warning: {warning}", markup=False)
        building = self.store.begin(stage)
        lines = building.checkpoints / METRICS

        def log(facts: dict[str, Any]) -> None:
            append_line(lines, facts)
            self.record.line(facts, lines)

        outcome = self._compute(stage, building.folder, building.checkpoints, log)
        if telemetry := last_by_step(lines):
            (building.folder / METRICS).write_text("".join(telemetry), encoding="utf-8")
        seconds = time.monotonic() - started
        facts: dict[str, Any] = {"seconds": round(seconds, 3), "versions": versions()}
        if ephemeral:
            facts[EPHEMERAL] = True
        self.store.publish(stage, building, outcome, facts)
        return StageResult(stage, False, seconds, outcome)

    def _compute(
        self, stage: Stage, folder: Path, checkpoints: Path, log: Callable[[dict[str, Any]], None]
    ) -> Outcome:
        """Runs a stage, on all ranks where it takes them all."""
        if self.shared is not None and stage.on_all_ranks:
            self.shared.ranks.broadcast_unbounded((stage.key, folder, checkpoints))
        path = self.store.path
        return stage.run(
            StageContext(folder, checkpoints, stage.key, path, lambda: self._session, log)
        )

    def _uncomputed(self, stage: Stage, over: bool) -> StageResult:
        """Returns what the store has of a stage that nothing is computed for."""
        if (manifest := self.store.manifest(stage)) is not None:
            return StageResult(stage, True, 0.0, manifest["outcome"])
        return StageResult(stage, False, 0.0, None if over else "completed", needed=over)

    def _lines(self, stage: Stage) -> list[str]:
        """Returns a stage's telemetry; empty where it has left none."""
        return last_by_step(self.store.path(stage) / METRICS)


def follow(plan: Plan, store: Store, session: Session) -> None:
    """Runs, as a rank other than 0, the stages that rank 0 names, until it names no more.

    Raises:
        ConfigError: If it names one that this rank did not plan.
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
    required: dict[str, bool] = {}
    if diverged(plan, store):
        return required

    def require(stage: Stage, loaded: bool) -> None:
        if stage.key in required and required[stage.key] >= loaded:
            return
        required[stage.key] = loaded
        if store.manifest(stage, loaded) is None:
            for read in stage.inputs:
                require(read, True)

    for stage in plan.wanted:
        require(stage, stage.kind in MADE)
    return required


def diverged(plan: Plan, store: Store) -> bool:
    """Returns whether one of the plan's stages is known to diverge."""
    manifests = (store.manifest(stage) for stage in plan.stages)
    return any(manifest["outcome"] == "diverged" for manifest in manifests if manifest is not None)


def complete(plan: Plan, store: Store) -> bool:
    """Returns whether everything that is wanted is there, so that nothing will be computed."""
    stages = {stage.key: stage for stage in plan.stages}
    required = required_stages(plan, store)
    return all(store.manifest(stages[key], load) for key, load in required.items())


def _print_result(result: StageResult, number: int, total: int, about: str) -> None:
    stage, how = result.stage, f"{result.seconds:.1f}s"
    if not result.needed:
        how = "not needed"
    elif result.outcome is None:
        how = "skipped: the run diverged"
    elif result.cached:
        how = "given" if stage.given else "cached"
    if result.outcome == "diverged":
        how += f", diverged: {result.divergence.get('cause', 'no cause recorded')}"
    console.print(
        f"[{number}/{total}] {stage.label:<20} {stage.kind}/{stage.key}  {how}{about}", markup=False
    )
