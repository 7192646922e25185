"""Jobs of a sweep: each with a folder, and what its files say of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from unlearn_runner.config import names
from unlearn_runner.config.compose import explain
from unlearn_runner.config.root import Run
from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.clusters.spec import JobSpec
from unlearn_runner.errors import UserError
from unlearn_runner.pipeline.inputs import Rowsets
from unlearn_runner.pipeline.job import PlannedJob, plan_config
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.report import schema
from unlearn_runner.sweeps.grid import Grid
from unlearn_runner.tracking.folder import RESULTS, STATUS
from unlearn_runner.utils.files import leaves
from unlearn_runner.utils.untrusted import UntrustedError, read_json

SWEEPS = "sweeps"
DONE = ("completed", "diverged")


@dataclass
class SweepJob:
    """One job of a sweep."""

    axes: list[str]
    """Its overrides along the axes: what tells it from the others."""
    overrides: list[str]
    """All its overrides."""
    found: PlannedJob | None = None
    """What was planned, where it could be."""
    mistake: UserError | None = None
    """Why it could not be planned."""
    status: str = "waiting"
    cause: str = ""
    """Why it failed."""
    folders: Sequence[Path] = ()
    """Of a user's own options."""

    @property
    def valid(self) -> bool:
        """Whether it could be planned; only then has it a plan, a folder and a cluster's needs."""
        return self.found is not None

    @property
    def planned(self) -> PlannedJob:
        """What was planned."""
        assert self.found is not None
        return self.found

    @property
    def plan(self) -> Plan:
        """Its stages."""
        return self.planned.plan

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.planned.folder

    @property
    def parallel(self) -> Parallel:
        """How it uses a machine."""
        return self.planned.run.parallel

    @property
    def name(self) -> str:
        """What people call it: its folder's name, or its overrides where it has no folder."""
        return self.folder.name if self.valid else ",".join(self.axes)

    @property
    def identity(self) -> str:
        """What tells it from others: jobs with one folder are the same."""
        return str(self.folder) if self.valid else self.name

    @property
    def values(self) -> dict[str, str]:
        """Its value on each axis, as text."""
        pairs = (axis.partition("=") for axis in self.axes)
        return {key: value for key, _, value in pairs}

    def value(self, axis: str) -> str:
        """Returns its value on an axis, the configuration's where none of its overrides sets it."""
        if axis in self.values or not self.valid:
            return self.values.get(axis, "")
        composed = self.planned.composed
        found = composed.choices.get(axis, dict(leaves(composed.config)).get(axis))
        return "" if found is None else str(found)

    def spec(self) -> JobSpec:
        """Returns the job in the words of another process."""
        job, folders = self.planned.composed, list(map(str, self.folders))
        return JobSpec(self.overrides, job.name, str(job.outputs), job.arguments, folders)

    def run(self) -> int:
        """Runs it in this process, or in ranks that are its children; returns the exit code."""
        from unlearn_runner.pipeline.runner import start_job

        return start_job(self.planned, brief=True)

    def written(self, name: str) -> dict[str, Any]:
        """Returns a JSON file of the run folder; empty where there is none that a run wrote."""
        try:
            found = read_json(self.folder / name)
            schema.check(found, schema.RESULTS if name == RESULTS else schema.STATUS)
        except (FileNotFoundError, UntrustedError):
            return {}
        return found

    def refresh_status(self) -> str:
        """Returns how it ended as far as it is still true; `waiting` where there is work to do.

        It has ended when its folder says so, of the stages as they would be now, and the artifacts
        that it was to leave are in the store. Weights are not hashed for that.
        """
        self.status = "waiting"
        status, results = self.written(STATUS).get("status"), self.written(RESULTS)
        stages = {entry["key"]: entry for entry in results.get("stages", [])}
        keys = [stage.key for stage in self.plan.stages]
        if status in DONE and results.get("status") == status and list(stages) == keys:
            left = (s for s in self.plan.wanted if stages[s.key]["outcome"] is not None)
            found = [self.planned.store.manifest(stage) for stage in left]
            if all(manifest is not None and not manifest.get("dropped") for manifest in found):
                self.status = status
        return self.status


def planned_jobs(grid: Grid, more: list[str], read: dict[str, Rowsets]) -> list[SweepJob]:
    """Plans every job of an opened grid, all with `more` overrides; a mistake is kept with its job.

    Rows that have been `read` are not read again; those that are read now are added.
    """
    found: dict[str, SweepJob] = {}
    for axes in grid.combinations():
        job = _plan_job(grid, [*more, *axes], read)
        # A setting that cannot change a result makes no other job.
        found.setdefault(job.identity, job)
    return list(found.values())


def _plan_job(grid: Grid, axes: list[str], read: dict[str, Rowsets]) -> SweepJob:
    job = SweepJob(axes, [*grid.fixed, *axes], folders=grid.folders)
    try:
        composed = grid.compose(axes)

        def name_run(run: Run) -> str:
            sweep = names.validate_name(run.name or run.sweep.name or "sweep")
            evaluated = run.evaluate.path
            derived = names.derive(composed.overrides, composed.choices, evaluated)
            return f"{SWEEPS}/{sweep}/{derived}"

        rows = json.dumps(composed.config["benchmark"], sort_keys=True, default=str)
        job.found = plan_config(composed.config, name_run, composed.choices, read.get(rows))
        read[rows] = job.plan.inputs.rowsets
    except UserError as error:
        job.mistake = error
    except (HydraException, OmegaConfBaseException) as error:
        job.mistake = explain(error)
    return job


def same_mistake(found: Sequence[SweepJob]) -> UserError | None:
    """Returns the mistake that all jobs share, which then is one of the command.

    Where each job has another one, none could run: then it is the first.
    """
    mistakes = {str(job.mistake) for job in found}
    none_runs = not any(job.valid for job in found)
    return found[0].mistake if len(mistakes) == 1 or none_runs else None
