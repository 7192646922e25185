"""Hydra's and OmegaConf's errors in our words: the key, what is allowed, the fix.

Hydra's own hint for a mistyped key, to add it with a plus sign, would smuggle in a setting that
nobody reads; so the overrides themselves are looked at for the one that cannot be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn_runner.errors import ConfigError, UserError, listed, nearest
from unlearn_runner.help import groups


def explain(error: Exception, arguments: Iterable[str], conf: Path) -> UserError | None:
    """Returns the user's mistake behind an exception, or none when it is not one.

    Args:
        error: What Hydra or OmegaConf raised.
        arguments: The command line.
        conf: Folder of the configuration.
    """
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return None
    arguments = list(arguments)
    sweeping = "-m" in arguments or "--multirun" in arguments
    options = groups(conf)
    keys = known_keys(conf, options)
    for override in arguments:
        if not override.startswith("-"):
            found = mistake(override, options, keys, sweeping)
            if found is not None:
                return found
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    key = getattr(error, "full_key", None)
    return ConfigError(f"{key}: {first}" if key else first, "unlearn --help lists groups and keys")


def mistake(
    override: str, options: Mapping[str, list[str]], keys: set[str], sweeping: bool
) -> UserError | None:
    """Returns what is wrong with one override, or none.

    Args:
        override: As typed, such as "method=npo" or "train.lr=1e-5".
        options: Options by configuration group.
        keys: Every dotted key that some file of the configuration sets.
        sweeping: Whether several values are allowed (`-m`).
    """
    key, equals, value = override.lstrip("+~").partition("=")
    key = key.partition("@")[0]
    if not equals and not override.startswith("~"):
        return ConfigError(
            f"{override} is not an override; write KEY=VALUE", _offer(key, value, options, keys)
        )
    if key in options:
        return _wrong_option(override, key, value, options[key], sweeping)
    if key.partition(".")[0] != "hydra" and key not in keys:
        siblings = [k for k in keys if k.rpartition(".")[0] == key.rpartition(".")[0]]
        allowed = listed(sorted(s.rpartition(".")[2] for s in siblings), 16) if "." in key else ""
        if "." not in key:
            allowed = listed(sorted({*options, *(k for k in keys if "." not in k)}), 24)
        return ConfigError(
            f"{key} is not a setting" + (f"; known here: {allowed}" if allowed else ""),
            _offer(key, value, options, keys),
        )
    if "," in value and not value.lstrip().startswith(("[", "{", "'", '"')) and not sweeping:
        return ConfigError(
            f"{key}={value} gives several values, which only a sweep can take",
            f"unlearn -m {key}={value}, or {key}=[{value}] for one list",
        )
    return None


def _wrong_option(
    override: str, group: str, value: str, allowed: list[str], sweeping: bool
) -> UserError | None:
    if override.startswith("+"):
        return ConfigError(f"+{group} adds a group that is already there", f"{group}={value}")
    if override.startswith("~"):
        return ConfigError(
            f"{override} removes a group that every run needs",
            f"leave it out; {group}=... chooses another",
        )
    if "," in value and not sweeping:
        return ConfigError(f"{group}={value} names several options", f"unlearn -m {group}={value}")
    for option in value.split(","):
        if option not in (*allowed, "null"):
            close = nearest(option, allowed)
            return ConfigError(
                f"{group}={option} is not one of the {group} options: {listed(allowed, 24)}",
                f"{group}={close}" if close else "",
            )
    return None


def _offer(key: str, value: str, options: Mapping[str, list[str]], keys: set[str]) -> str:
    close = nearest(key, [*options, *keys])
    if not close:  # a bare last part, such as gamma for rectifier.gamma
        ends = sorted(k for k in keys if k.rpartition(".")[2] == key)
        close = ends[0] if ends else ""
    return f"{close}={value or '...'}" if close else "unlearn --help lists groups and keys"


def known_keys(conf: Path, options: Mapping[str, list[str]]) -> set[str]:
    """Returns every dotted key that some file of the configuration sets."""
    keys = _flat(OmegaConf.to_container(OmegaConf.load(conf / "config.yaml")))
    for group, names in options.items():
        for name in names:
            path = conf / group / f"{name}.yaml"
            content = OmegaConf.to_container(OmegaConf.load(path))
            whole = path.read_text(encoding="utf-8").startswith("# @package _global_")
            keys |= _flat(content) if whole else {group} | _flat(content, f"{group}.")
    return {key for key in keys if not key.startswith(("defaults", "hydra"))}


def _flat(content: Any, prefix: str = "") -> set[str]:
    if not isinstance(content, Mapping):
        return set()
    names = {f"{prefix}{name}" for name in content}
    return names.union(*(_flat(value, f"{prefix}{name}.") for name, value in content.items()))
