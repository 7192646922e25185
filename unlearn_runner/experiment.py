"""One composed configuration: validated, planned, and handed to whoever performs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from unlearn_runner import foreign, launch, naming
from unlearn_runner.config import Run, validate
from unlearn_runner.errors import ConfigError
from unlearn_runner.help import CONF
from unlearn_runner.job import Job
from unlearn_runner.perform import perform
from unlearn_runner.pipeline import complete
from unlearn_runner.plan import Data, Plan, plan
from unlearn_runner.progress import results_console
from unlearn_runner.store import Store
from unlearn_runner.tracking.private import redacted
from unlearn_runner.worker import serve


@dataclass(frozen=True)
class Planned:
    """A job whose configuration is checked and whose stages are known."""

    job: Job
    run: Run
    stages: Plan

    @property
    def store(self) -> Store:
        """Where its artifacts are."""
        return Store(self.job.store, self.run.verify)


def planned(
    config: dict[str, Any],
    named: Callable[[Run], str],
    choices: Mapping[str, str | None],
    data: Data | None = None,
) -> Planned:
    """Validates a resolved configuration, reads the rows, and plans.

    Args:
        config: What was composed.
        named: Returns the run folder's name, below the outputs folder.
        choices: Chosen option by group, as Hydra has them.
        data: The benchmark's rows, where they have been read.

    Raises:
        UserError: For anything wrong with the configuration or the data; nothing is written then.
    """
    run = validate(config)
    stages = plan(run, data)
    outputs = Path(run.output_dir).expanduser() if run.output_dir else CONF.parent / "outputs"
    place = Path(run.store).expanduser() if run.store else outputs / "store"
    job = Job(config, outputs.absolute(), named(run), place.absolute(), sys.argv[1:], _of(choices))
    return Planned(job, run, stages)


def run_composed(composed: DictConfig) -> int:
    """Validates, plans and runs one composed configuration; returns the exit code.

    Raises:
        UserError: For anything wrong with the configuration or the data; nothing is written then.
    """
    config = cast(
        dict[str, Any], OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    )
    found = planned(config, _name, HydraConfig.get().runtime.choices)
    _refuse_selection(found.run)
    if found.run.plan_only:
        print_plan(found.stages, found.store, found.job.name)
        print_settings(config)
        return 0
    if found.run.estimate:
        from unlearn_runner.estimate.command import estimate

        estimate(found.run, found.stages)
        return 0
    if found.run.cluster.elsewhere and not foreign.world():
        from unlearn_runner.sweeps.sweep import run_one

        return run_one(found, list(HydraConfig.get().overrides.task))
    return run_planned(found)


def _refuse_selection(run: Run) -> None:
    """Refuses to select where there is nothing to select from."""
    if run.sweep.select.criterion is not None:
        raise ConfigError(
            f"sweep.select.criterion={run.sweep.select.criterion}: this is one run, or a sweep of "
            "Hydra's own; a selection is made among the points of the runner's sweeps",
            "unlearn -m with values between commas, or sweep.select.criterion=null",
        )


def run_planned(found: Planned, brief: bool = False) -> int:
    """Runs a job in this process, or in ranks that are its children; returns the exit code.

    Args:
        found: The job.
        brief: Whether the table of its scores is left to the caller.

    Raises:
        UserError: If its run folder belongs to another configuration, or the machine refuses.
        Interrupted: If a signal ended it.
    """
    job, run, stages = found.job, found.run, found.stages
    refuse_other_configuration(job, run.overwrite)
    if foreign.world():
        foreign.check(run.parallel, run.train.precision)
        serve(job)
        return 0
    if launch.ranked(run.parallel) and not complete(stages, found.store):
        return launch.start(job, run.parallel)
    if (run.parallel.node_rank or 0) == 0:
        perform(job, run, stages, brief=brief)
    return 0


def _of(choices: Mapping[str, str | None]) -> dict[str, str]:
    return {
        str(group): str(option)
        for group, option in choices.items()
        if option is not None and not str(group).startswith(("hydra/", "smallest"))
    }


def _name(run: Run) -> str:
    """Returns the run folder's name below the outputs folder."""
    hydra = HydraConfig.get()
    overrides, choices = list(hydra.overrides.task), hydra.runtime.choices
    derived = naming.derive(overrides, choices)
    if hydra.mode == RunMode.MULTIRUN:
        # A swept value names the job; what all jobs share names the sweep.
        sweep = naming.checked(run.name) if run.name else "sweep"
        return f"sweeps/{sweep}/{derived}"
    return f"runs/{naming.checked(run.name) if run.name else derived}"


def refuse_other_configuration(job: Job, overwrite: bool) -> None:
    """Guards a run folder: it is continued by the configuration that began it, and by no other.

    Raises:
        ConfigError: If it holds another one, unless that may be overwritten.
    """
    path = job.folder / "config.yaml"
    if overwrite or not path.is_file():
        return
    identity = job.identity
    other = naming.identity(cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path))))
    # Through JSON: a tuple that was written comes back as a list.
    if json.dumps(other, sort_keys=True) != json.dumps(identity, sort_keys=True):
        keys = [k for k in {**other, **identity} if other.get(k) != identity.get(k)]
        raise ConfigError(
            f"name={job.folder.name}: that run folder holds another configuration "
            f"(it differs in {', '.join(sorted(keys)[:4])})",
            "choose another name=..., or overwrite=true to replace it",
        )


def print_settings(config: dict[str, Any]) -> None:
    """Prints the settings, who set each, and what that replaced."""
    from unlearn_runner.origins import table

    hydra = HydraConfig.get()
    places = [Path(source.path) for source in hydra.runtime.config_sources]
    further = [place for place in places if place.is_dir() and place != CONF]
    results_console().print(table(list(hydra.overrides.task), redacted(config), further))


def print_plan(stages: Plan, store: Store, name: str) -> None:
    """Prints the stages with key, cached or not, and what each reads."""
    table = Table(title=f"plan of {name}", title_justify="left", title_style="bold")
    for column in ("stage", "key", "cached"):
        table.add_column(column, no_wrap=True)
    table.add_column("reads")
    for stage in stages.stages:
        cached = ("given" if stage.given else "yes") if store.manifest(stage) else "no"
        table.add_row(stage.label, f"{stage.kind}/{stage.key}", cached, stage.reads())
    results_console().print(table)
    print(f"store    {store.root}")
