"""Finished runs, taken up again: what the commands share that add a measurement to run folders."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unlearn_runner.errors import ConfigError, UserError, listed, nearest

if TYPE_CHECKING:
    from unlearn_runner.pipeline.job import PlannedJob
    from unlearn_runner.report.run_folder import RunFolder

ALONE = ("cluster", "tracker", "sweep")
"""Groups of a run that have no part in it."""


@dataclass(frozen=True)
class Words:
    """A command line's parts."""

    folders: list[Path]
    own: list[str]
    """Overrides of the measurement's own settings, as `unlearn` has them."""
    composed: list[str]
    """Options and settings of groups that are taken as they are."""

    def names(self, group: str) -> bool:
        """Returns whether a group, or a setting of it, is among `composed`."""
        keys = (word.lstrip("+").partition("=")[0] for word in self.composed)
        return any(key.partition(".")[0] == group for key in keys)


def read_words(
    words: Sequence[str], help_: str, groups: Sequence[str], own: Sequence[str] = (), of: str = ""
) -> Words:
    """Returns the parts of a command line.

    Args:
        words: Of the command line.
        help_: The command that explains them.
        groups: Groups of `unlearn` that are taken as they are.
        own: Settings that are written bare.
        of: Group that those are settings of.

    Raises:
        ConfigError: For a word that is none of them, or no run at all.
    """
    found = Words([], [], [])
    for word in words:
        key = word.lstrip("+").partition("=")[0]
        if os.path.exists(word) or ("=" not in word and not word.startswith("-")):
            found.folders.append(Path(word))
        elif key in own:
            found.own.append(f"{of}.{word.lstrip('+')}")
        elif key.partition(".")[0] in groups and not word.startswith("-"):
            found.composed.append(word)
        else:
            known = [*own, *groups]
            close = nearest(key.lstrip("-"), known)
            raise ConfigError(
                f"{word} is no setting of a measurement; allowed: {listed(known)}",
                f"{close}={word.partition('=')[2] or 'VALUE'}" if close else help_,
            )
    if not found.folders:
        raise ConfigError("no run is named; allowed: folders of runs and of sweeps", help_)
    return found


def measure(
    folders: Sequence[Path],
    refuse: Callable[[RunFolder], None],
    plans: Callable[[RunFolder], list[PlannedJob]],
    show: Callable[[PlannedJob], None],
) -> int:
    """Plans the measurements of all runs in folders, then makes them; returns the exit code.

    Args:
        folders: Of runs, or of sweeps.
        refuse: Raises where a run cannot be measured.
        plans: Returns the jobs that measure a run.
        show: Prints what a finished job has found.
    """
    from unlearn_runner.report.discovery import find_runs
    from unlearn_runner.utils.process import prepare_process

    prepare_process()
    found = find_runs(folders)
    for problem in found.left_out:
        print(f"Left out: {problem}", file=sys.stderr)
    for run in found.runs:
        refuse(run)
    jobs = [job for run in found.runs for job in plans(run)]
    from unlearn_runner.pipeline.runner import start_job

    for job in jobs:
        sys.argv = ["unlearn", *job.composed.arguments]  # what makes this folder, all of it
        if code := start_job(job, brief=True):
            return code
        show(job)
    return 0


def plan_again(run: RunFolder, config: dict[str, Any], group: str, own: list[str]) -> PlannedJob:
    """Returns a run's own job with a measurement in its plan; everything else is stored.

    Args:
        run: The run.
        config: Its configuration, with the measurement's.
        group: What that is called in it.
        own: Words of `unlearn` that choose it.

    Raises:
        UserError: For a mistake in the settings, or if the models are not in the store.
    """
    from unlearn_runner.pipeline.job import ComposedJob, plan_job

    outputs, name = _place(run)
    store = Path(run.config.get("store") or outputs / "store").expanduser().absolute()
    recorded = shlex.split(str(run.provenance.get("command", "unlearn")))[1:]
    recorded = [w for w in recorded if w.partition("=")[0].partition(".")[0] != group]
    choices = {str(k): str(v) for k, v in run.provenance.get("choices", {}).items()}
    job = plan_job(ComposedJob(config, outputs, name, store, [*recorded, *own], choices))
    if job.store.manifest(job.plan.unlearn) is None:
        stage = job.plan.unlearn
        raise UserError(
            f"{run.path}: its models are not in {store} as {stage.kind}/{stage.key}: they were "
            "removed, or made by other code",
            shlex.join(["unlearn", *recorded]),
        )
    return job


def _place(run: RunFolder) -> tuple[Path, str]:
    """Returns the outputs folder of a run, and the run's name below it."""
    folder = run.path.resolve()
    for outputs in list(folder.parents)[1:4]:
        name = folder.relative_to(outputs)
        if name.parts[0] in ("runs", "sweeps"):
            return outputs, str(name)
    return folder.parent, folder.name


def recomposed(run: RunFolder, words: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """Returns a run's configuration with some groups as a command line has them.

    One process's work, whoever made the run; and no second entry on a dashboard.

    Args:
        run: The run.
        words: Of the command line: options and settings.
        groups: What is taken from it.

    Raises:
        ConfigError: For a mistake in them.
    """
    from unlearn_runner.config.command_line import parse
    from unlearn_runner.config.compose import compose

    config = {name: value for name, value in run.config.items() if name not in ALONE}
    of_benchmark = []
    if benchmark := run.provenance.get("choices", {}).get("benchmark"):
        settings = cast(Mapping[str, Any], config.get("benchmark", {}))
        of_benchmark = [f"benchmark={benchmark}"]  # published settings of methods go by its split
        of_benchmark += [
            f"benchmark.{key}={settings[key]}"
            for key in ("forget", "data_dir")
            if settings.get(key)
        ]
    command = parse([*of_benchmark, *words])
    composed = compose(command.overrides, command.folders).config
    return config | {group: composed[group] for group in (*groups, "tracker")}
