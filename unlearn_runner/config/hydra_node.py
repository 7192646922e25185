"""Hydra's own node of a configuration: what may stand in it, and which of it a command may set.

Hydra makes objects of whatever `_target_` it finds there, and logging of whatever class; a file of
a `--config-dir` can write into it as well as a command line can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unlearn_runner.config.synonyms import synonym
from unlearn_runner.errors import ConfigError, shortened

SETTABLE = ("hydra.searchpath", "hydra.verbose", "hydra.launcher.", "hydra.sweeper.")
CHOSEN = ("hydra/launcher", "hydra/sweeper")
PLUGINS = ("hydra._internal.core_plugins.", "hydra_plugins.")
"""Where launchers and sweepers come from; Hydra takes subclasses of its own alone."""
SILENT = {"version": 1, "root": None, "disable_existing_loggers": False}


def check_override(override: str) -> None:
    """Refuses to set or choose what a run does not use, or must not change.

    Raises:
        ConfigError: With our setting in its place, where there is one.
    """
    key, _, value = override.lstrip("+~").partition("=")
    if key.split("@")[0] in CHOSEN and value in ("basic", "none"):
        return
    if fix := synonym(key, value):
        raise ConfigError(f"{shortened(override)} sets what only Hydra knows; ours is", fix)
    if not key.startswith(SETTABLE) and key.split("@")[0] not in CHOSEN:
        raise ConfigError(
            f"{shortened(override)} sets what a run does not use: folders, logging and processes "
            "are the runner's; allowed: hydra/launcher, hydra/sweeper and their settings, "
            "hydra.searchpath, hydra.verbose"
        )


def check(hydra: DictConfig) -> None:
    """Refuses a node that would have Hydra run anything but its own launchers and sweepers.

    Raises:
        ConfigError: Naming the key.
    """
    node: Any = OmegaConf.to_container(hydra)
    for name in ("launcher", "sweeper"):
        plugin = node.pop(name, None)
        target = plugin.pop("_target_", None) if isinstance(plugin, dict) else plugin
        if not isinstance(target, str) or not target.startswith(PLUGINS):
            key = f"hydra.{name}" + ("._target_" if isinstance(plugin, dict) else "")
            _refuse(key, target, f"hydra/{name}=NAME of one that is installed")
        for key, value in _strings(plugin, f"hydra.{name}"):
            named = "${" in value and "${hydra.sweep." not in value
            if named or key.rpartition(".")[2] == "_target_":
                _refuse(key, value, "a value")
    parts = {"callbacks": (node.pop("callbacks"), {}), "job.env_set": (node["job"]["env_set"], {})}
    parts |= {name: (node.pop(name), SILENT) for name in ("job_logging", "hydra_logging")}
    for name, (found, allowed) in parts.items():
        if found != allowed:
            _refuse(f"hydra.{name}", found, "nothing there")
    for key, value in _strings(node, "hydra"):
        if key.rpartition(".")[2] in ("_target_", "()"):
            _refuse(key, value, "nothing there")


def _refuse(key: str, value: object, allowed: str) -> None:
    raise ConfigError(f"{key}={shortened(value)} would have Hydra run it; allowed: {allowed}")


def _strings(node: object, key: str) -> Iterator[tuple[str, str]]:
    """Yields every key that ends in a value, with that as text."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _strings(value, f"{key}.{name}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _strings(value, f"{key}.{i}")
    else:
        yield key, str(node)
