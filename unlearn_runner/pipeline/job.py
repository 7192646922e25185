"""Planned job: one composed configuration, typed, with its stages and the folders it writes to.

The object that travels: `run.py` and sweeps make it, the runner takes it to its end.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from unlearn_runner.config import names
from unlearn_runner.config.checkpoint import CHOICES
from unlearn_runner.config.groups import outputs as default_outputs
from unlearn_runner.config.root import Run, validate
from unlearn_runner.errors import ConfigError
from unlearn_runner.store.store import Store
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import expanded
from unlearn_runner.utils.redact import redacted

if TYPE_CHECKING:
    from unlearn_runner.pipeline.inputs import Rowsets
    from unlearn_runner.pipeline.plan import Plan

CONFIG = "config.yaml"


@dataclass(frozen=True)
class ComposedJob:
    """What Hydra composed, and where it goes: all that a rank needs to plan the same job."""

    config: dict[str, Any]
    """The resolved configuration, secrets included; never written down as it is."""
    outputs: Path
    name: str
    """Of the run folder, below `outputs`."""
    store: Path
    arguments: list[str]
    """The command line, to be shown where somebody should repeat it."""
    choices: dict[str, str]
    """The chosen option of each configuration group."""

    def text(self) -> str:
        """Returns it as one line of JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def read(cls, text: str) -> ComposedJob:
        """Returns what `text` wrote."""
        fields = json.loads(text)
        folders = {name: Path(fields[name]) for name in ("outputs", "store")}
        return cls(**{**fields, **folders})


@dataclass(frozen=True)
class PlannedJob:
    """A job whose configuration is checked and whose stages are known."""

    composed: ComposedJob
    run: Run
    plan: Plan

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.composed.outputs / self.composed.name

    @property
    def store(self) -> Store:
        """Where its artifacts are."""
        return Store(self.composed.store, self.run.verify)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration without secrets, fit to be written down."""
        return redacted(self.composed.config)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The settings that make it this experiment and no other."""
        return names.identity(self.config)

    @property
    def config_hash(self) -> str:
        """Hash of those settings."""
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _planned(run: Run, rowsets: Rowsets | None = None) -> Plan:
    # A mistake in the configuration is answered without loading what plans.
    from unlearn_runner.pipeline.inputs import read_inputs
    from unlearn_runner.pipeline.plan import plan

    return plan(run, read_inputs(run, rowsets))


def plan_job(composed: ComposedJob) -> PlannedJob:
    """Returns a composed job with its inputs read and its stages planned."""
    run = validate(composed.config)
    return PlannedJob(composed, run, _planned(run))


def plan_config(
    config: dict[str, Any],
    name_run: Callable[[Run], str],
    choices: Mapping[str, str | None],
    rowsets: Rowsets | None = None,
) -> PlannedJob:
    """Validates a resolved configuration, reads its inputs, and plans.

    Args:
        config: What was composed.
        name_run: Returns the run folder's name, below the outputs folder.
        choices: Chosen option by group, as Hydra has them.
        rowsets: The benchmark's rows, where they have been read.

    Raises:
        UserError: For anything wrong with the configuration or the data; nothing is written then.
    """
    run = validate(config)
    planned = _planned(run, rowsets)
    outputs = default_outputs()
    if run.output_dir:
        outputs = expanded("output_dir", run.output_dir)
    store = expanded("store", run.store) if run.store else outputs / "store"
    options = {
        str(group): str(option)
        for group, option in choices.items()
        if option is not None and not str(group).startswith(("hydra/", "smallest"))
    }
    if run.evaluate.path is not None:
        options |= dict.fromkeys(CHOICES, "none")
    composed = ComposedJob(
        config, outputs.absolute(), name_run(run), store.absolute(), sys.argv[1:], options
    )
    return PlannedJob(composed, run, planned)


def _read_config(path: Path) -> dict[str, Any] | None:
    """Returns a run's configuration; none where it cannot be read: empty, cut off, or no YAML."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else None
    except (OSError, ValueError, TypeError, RecursionError, YAMLError, OmegaConfBaseException):
        return None
    return cast(dict[str, Any], content) if content and isinstance(content, dict) else None


def refuse_other_configuration(job: PlannedJob) -> None:
    """Guards a run folder: it is continued by the configuration that began it, and by no other.

    Raises:
        ConfigError: If it holds another one, unless `overwrite` is set.
    """
    path = job.folder / CONFIG
    if job.run.overwrite or not path.exists():
        return
    found = _read_config(path)
    if found is None:
        warning = f"{path} cannot be read, so it is not known whose run folder this is"
        console.print(f"warning: {warning}; it is written anew", markup=False)
        return
    identity, other = job.identity, names.identity(found)
    # Through JSON: a tuple that was written comes back as a list. A setting that is null, and that
    # an earlier release did not have, says the same.
    known = {**other, **identity}
    keys = [k for k in known if json.dumps(other.get(k)) != json.dumps(identity.get(k))]
    if keys:
        raise ConfigError(
            f"name={job.folder.name}: that run folder holds another configuration "
            f"(it differs in {', '.join(sorted(keys)[:4])})",
            "choose another name=..., or overwrite=true to replace it",
        )
