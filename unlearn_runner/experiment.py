"""One composed configuration, from validation to the table at the end."""

from __future__ import annotations

import hashlib
import json
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from unlearn_runner import naming
from unlearn_runner.build import TRUSTED, build
from unlearn_runner.config import Run
from unlearn_runner.disk import refusal
from unlearn_runner.errors import ConfigError, UserError
from unlearn_runner.help import CONF
from unlearn_runner.plan import Plan, plan
from unlearn_runner.progress import results_console
from unlearn_runner.store import Store
from unlearn_runner.tracking.private import redacted

if TYPE_CHECKING:
    from unlearn_runner.records import Record


def run_composed(composed: DictConfig) -> None:
    """Validates, plans and runs one composed configuration.

    Raises:
        UserError: For anything wrong with the configuration or the data; nothing is written then.
    """
    config = cast(
        dict[str, Any], OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    )
    run = validate(config)
    name = _name(run)
    stages = plan(run)
    outputs = Path(run.output_dir).expanduser() if run.output_dir else CONF.parent / "outputs"
    store = Store(Path(run.store).expanduser() if run.store else outputs / "store", run.verify)
    if run.plan_only:
        print_plan(stages, store, name)
        print_settings(config)
        return
    folder = outputs / name
    config = redacted(config)  # what is written down holds no secret
    identity = naming.identity(config)
    _refuse_other_configuration(folder, identity, run.overwrite)
    try:
        _run(run, config, identity, stages, store, folder)
    except OSError as error:
        if refused := refusal(error, folder):
            raise refused from error
        raise


def validate(config: dict[str, Any]) -> Run:
    """Returns the typed run that a plain configuration describes."""
    trusted = config.get("trusted") or []
    if not isinstance(trusted, list):
        raise ConfigError(
            f"trusted={trusted} must be a list of package names: trusted=[my_package]"
        )
    if isinstance(config.get("name"), (int, float)):
        config["name"] = str(config["name"])  # name=2024 is a name, too
    return build(config, Run, trusted=(*TRUSTED, *map(str, trusted)))


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


def _refuse_other_configuration(folder: Path, identity: dict[str, Any], overwrite: bool) -> None:
    path = folder / "config.yaml"
    if overwrite or not path.is_file():
        return
    other = naming.identity(cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path))))
    # Through JSON: a tuple that was written comes back as a list.
    if json.dumps(other, sort_keys=True) != json.dumps(identity, sort_keys=True):
        keys = [k for k in {**other, **identity} if other.get(k) != identity.get(k)]
        raise ConfigError(
            f"name={folder.name}: that run folder holds another configuration "
            f"(it differs in {', '.join(sorted(keys)[:4])})",
            "choose another name=..., or overwrite=true to replace it",
        )


def _run(
    run: Run,
    config: dict[str, Any],
    identity: dict[str, Any],
    stages: Plan,
    store: Store,
    folder: Path,
) -> None:
    # Imported here: a plan or an error needs none of it.
    from unlearn_runner import interrupt, results
    from unlearn_runner.pipeline import WEIGHTS, execute
    from unlearn_runner.records import Record
    from unlearn_runner.stages import along

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
            done = execute(stages, store, record, run.parallel)
    except KeyboardInterrupt as error:
        record.status("interrupted", signal=str(error) or "SIGINT", resume=results.command())
        raise
    except Exception as error:
        _failed(record, error)
        raise
    if run.keep == "scores":
        for item in done:
            if item.stage.kind == "unlearn" and not item.cached:
                store.drop(item.stage, WEIGHTS)
    by_model = results.scores(stages, store, done)
    content = results.content(run, stages, folder.name, config_hash, done, results.flat(by_model))
    if stages.along is not None and done[-1].outcome == "completed":
        content["along"] = along.read(store.path(stages.along))
    record.results(content)
    record.status(content["status"])
    results.print_table(by_model, f"{folder.name}: {content['status']}")
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
