"""G-effects in a run folder: the tables of the stage, under names that tell measurements apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from unlearn_runner.pipeline.execute import StageResult
from unlearn_runner.pipeline.job import PlannedJob
from unlearn_runner.pipeline.stages.geffect_tables import SAMPLES, STEM, SUMMARY, TENSORS


def copy_tables(job: PlannedJob, results: Iterable[StageResult]) -> list[Path]:
    """Copies what the stage found, if the plan has one and it was reached; returns the files."""
    stage = job.plan.geffect
    done = {result.stage.key for result in results if result.outcome == "completed"}
    if stage is None or stage.key not in done:
        return []
    folder, found = job.store.path(stage), []
    for name in (SUMMARY, TENSORS, SAMPLES):
        if (folder / name).is_file():
            found.append(job.folder / name.replace(STEM, stem(job), 1))
            shutil.copyfile(folder / name, found[-1])
    return found


def stem(job: PlannedJob) -> str:
    """Returns the beginning of the files' names: "geffect" for the usual measurement of a run.

    Of another objective, risk or mode it says which, so that a run folder can hold several.
    """
    setting, parts = job.run.geffect, [STEM]
    if setting.method is not None and job.plan.geffect is not None:
        parts += [type(setting.method).__name__.lower(), job.plan.geffect.key[:4]]
    parts += [word for word in (setting.risk, setting.mode) if word not in ("nll", "exact")]
    return "-".join(parts)
