"""Who set a value: which file of `conf/`, or the command line, and what it was before.

Hydra merges files in the order of its defaults list; this reads the same list and the same files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import OmegaConf

from unlearn_runner.config.checkpoint import is_of_training
from unlearn_runner.config.command_line import SEARCHPATH
from unlearn_runner.config.compose import forced
from unlearn_runner.config.groups import CONF
from unlearn_runner.errors import as_value
from unlearn_runner.utils.columns import TitledTable
from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.files import leaves

COMMAND_LINE, DEFAULT = "command line", "default"
SHOWN = ("method", "rectifier", "adapter", "train", "target", "retain_model", "evaluate")
"""Groups of settings that are listed whole."""
ALSO = ("benchmark.forget", "benchmark.compat", "benchmark.generate", "seed", "keep", "save_dtype")


@dataclass(frozen=True)
class Setting:
    """One value that a file, or the command line, gave a key."""

    value: Any
    by: str


def config_sources(
    overrides: Sequence[str], folders: Sequence[Path] = ()
) -> dict[str, list[Setting]]:
    """Returns for every dotted key the values it was given in order; the last one holds."""
    places = create_config_search_path(str(CONF))
    for folder in folders:
        places.append("folder", str(folder))
    loader = ConfigLoaderImpl(places)
    given = [o for o in forced(overrides, folders) if not o.startswith(SEARCHPATH)]
    listed = loader.compute_defaults_list("config", given, RunMode.RUN)
    found: defaultdict[str, list[Setting]] = defaultdict(list)
    for default in listed.defaults:
        path = default.config_path or ""
        loaded = None if path.startswith("hydra/") else loader.repository.load_config(path)
        if loaded is None:
            continue
        plain: Any = OmegaConf.to_container(loaded.config)
        plain.pop("defaults", None)
        by = "config.yaml" if path == "config" else path
        for key, value in leaves(plain, default.package or ""):
            found[key].append(Setting(value, by))
    for override in listed.config_overrides:
        if override.key_or_group.split(".")[0] != "hydra" and not override.is_delete():
            for key, value in leaves(override.value(), override.key_or_group):
                found[key].append(Setting(value, COMMAND_LINE))
    return found


def print_settings(
    overrides: Sequence[str], config: Mapping[str, Any], folders: Sequence[Path]
) -> None:
    """Prints the settings of a run, each with who set it and what that replaced.

    `config` is complete, and without secrets; `folders` are those of a user's own options.
    """
    table = TitledTable("settings")
    for column in ("setting", "value", "set by", "instead of"):
        table.add_column(column, no_wrap=column == "setting")
    there = {k: v for k, v in leaves(config) if _listed(k) and not k.endswith("._target_")}
    if config["evaluate"]["path"] is not None:
        there = {k: v for k, v in there.items() if not is_of_training(k)}
    found = config_sources(overrides, folders)
    for _, keys in groupby(sorted(there, key=_place), _place):
        for key in keys:
            *before, last = found.get(key) or [Setting(there[key], DEFAULT)]
            replaced = [f"{_text(s.value)} of {s.by}" for s in before if s.value != last.value]
            table.add_row(key, _text(there[key]), last.by, ", ".join(replaced[::-1]))
        table.add_section()
    results_console().print(table)


def _listed(key: str) -> bool:
    return key.split(".")[0] in SHOWN or key in ALSO or key.startswith("benchmark.generate.")


def _place(key: str) -> int:
    group = key.split(".")[0]
    return SHOWN.index(group) if group in SHOWN else len(SHOWN) + (group != "benchmark")


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return as_value(value)
    return str(value)
