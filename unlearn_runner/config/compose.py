"""Compose: the only place where Hydra makes a configuration.

Every `KEY=VALUE` is handed over as `++KEY=VALUE`, so that a field no YAML lists can be set like any
other; whether there is such a field, `build` says. Nothing of Hydra's own is run here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from unlearn_runner.config import hydra_node, names
from unlearn_runner.config.build import settings
from unlearn_runner.config.command_line import SEARCHPATH, is_value
from unlearn_runner.config.groups import CONF, PLACED, groups
from unlearn_runner.config.root import Run
from unlearn_runner.errors import ConfigError, listed, nearest, quoted


def lookup(key: object, table: Mapping[str, Any]) -> Any:
    """Returns the entry for `key`, a setting: `${lookup:KEY,{a: 1, b: 2}}` in a YAML.

    Published settings differ by forget split; `benchmark.forget=forget05` then chooses them all.

    Raises:
        ValueError: If nothing was published for it; OmegaConf adds which setting asks.
    """
    if key not in table:
        there = listed(map(str, table))
        raise ValueError(f"nothing is published for {key}, only for {there}: set it yourself")
    return table[str(key)]


OmegaConf.register_new_resolver("lookup", lookup, replace=True)

Pair = tuple[DictConfig, DictConfig]
"""A configuration without Hydra's own node, and one with it."""


@dataclass(frozen=True)
class Composed:
    """A plain, resolved configuration, and what it was composed from."""

    config: dict[str, Any]
    overrides: list[str]
    """As typed, without prefixes."""
    choices: Mapping[str, str | None]
    """Chosen option by group."""
    folders: Sequence[Path] = ()
    """Of a user's own options."""
    in_sweep: bool = False
    """Whether it is a job of a sweep of Hydra's own."""

    def name_run(self, run: Run) -> str:
        """Returns the run folder's name, below the outputs folder."""
        derived = names.derive(self.overrides, self.choices, run.evaluate.path)
        if self.in_sweep:  # a swept value names the job; what all jobs share names the sweep
            return f"sweeps/{run.name or 'sweep'}/{derived}"
        return f"{'evals' if run.evaluate.path else 'runs'}/{run.name or derived}"


@contextmanager
def hydra_open() -> Iterator[None]:
    """Sets Hydra up while configurations are composed."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def forced(overrides: Sequence[str], folders: Sequence[Path] = ()) -> list[str]:
    """Returns overrides as Hydra is to have them."""
    options = groups(CONF, *folders)
    found = [f"++{o.lstrip('+')}" if is_value(o, options) else _placed(o) for o in overrides]
    if folders:
        places = ",".join(quoted(f"file://{folder}") for folder in folders)
        found = [o for o in found if o.lstrip("+").partition("=")[0] != SEARCHPATH]
        found.append(f"{SEARCHPATH}=[{places}]")
    return found


def _placed(override: str) -> str:
    """Returns the choice of a group's option for a setting as Hydra writes it."""
    key, equals, value = override.lstrip("+").partition("=")
    return f"{PLACED[key]}@{key}{equals}{value}" if key in PLACED else override


def compose_nodes(overrides: Sequence[str], folders: Sequence[Path] = ()) -> Pair:
    """Returns the configuration of a command line, not resolved; Hydra must be open."""
    removals = [o for o in overrides if o[0] == "~" and is_value(o[1:], groups(CONF, *folders))]
    rest = [override for override in overrides if override not in removals]
    whole = hydra_compose("config", overrides=forced(rest, folders), return_hydra_config=True)
    OmegaConf.set_readonly(whole, False)
    if folders:
        hydra_node.check(whole.hydra)
    for removal in removals:
        _remove(whole, removal)
    around = whole.copy()
    with open_dict(whole):
        del whole["hydra"]  # larger than all the rest, and copied for every job of a sweep
    return whole, around


def _remove(config: DictConfig, removal: str) -> None:
    """Takes an entry out of a dictionary of settings, such as one metric.

    Raises:
        ConfigError: For a setting, which has a value always, and for what is not there.
    """
    key = removal[1:].partition("=")[0]
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig) or last not in node:
        near = nearest(last, map(str, node)) if isinstance(node, DictConfig) else ""
        there = listed(map(str, node), 40) if isinstance(node, DictConfig) else "nothing"
        raise ConfigError(
            f"{removal} removes nothing that is there; known here: {there}",
            f"~{parent}{'.' if parent else ''}{near}" if near and parent else "",
        )
    if key in settings(Run, OmegaConf.to_container(config), entries=True):
        raise ConfigError(
            f"{removal} removes a setting, and every setting has a value; allowed: {key}=VALUE"
        )
    with open_dict(node):
        del node[last]


def resolve(nodes: Pair, overrides: Sequence[str], folders: Sequence[Path] = ()) -> Composed:
    """Returns a composed configuration as plain containers."""
    config, around = nodes
    if HydraConfig.instance().cfg is not around:
        HydraConfig.instance().set_config(around)  # what ${hydra:...} looks at
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    choices = dict(around.hydra.runtime.choices)
    return Composed(cast(dict[str, Any], plain), list(overrides), choices, folders)


def compose(overrides: Sequence[str], folders: Sequence[Path] = ()) -> Composed:
    """Returns the configuration that a checked command line's overrides compose.

    Raises:
        ConfigError: If they do not compose.
    """
    try:
        with hydra_open():
            return resolve(compose_nodes(overrides, folders), overrides, folders)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from None


def explain(error: Exception) -> ConfigError:
    """Returns what Hydra or OmegaConf raised as a mistake in a command, on one line."""
    if isinstance(error, MissingMandatoryValue):
        return ConfigError(f"{getattr(error, 'full_key', None) or error} must be set")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # "In 'experiment/mine': ... raised while composing config:" is followed by what it was.
    words = " ".join(lines[: 3 if lines and lines[0].endswith(":") else 1]) or type(error).__name__
    key = getattr(error, "full_key", None)
    return ConfigError(f"{key}: {words}" if key else words.replace("++", ""))
