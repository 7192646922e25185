"""Mistakes in a command line, in our words: the key, what is allowed, the fix.

Groups and flags are checked before Hydra sees them. For the rest Hydra's error is translated: its
own hint for a mistyped key, to add it with a plus sign, would smuggle in what nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn_runner.config.groups import OPTIONAL, groups
from unlearn_runner.errors import HELP, ConfigError, UserError, listed, nearest
from unlearn_runner.utils.console import console

SWEEP = ("-m", "--multirun")
OURS = {*SWEEP, "--config-dir", "-cd"}
RENAMED = {"reference": "retain_model"}
"""Keys by their names before 0.2."""
ALONE = (*SWEEP, "--resolve", "--version", "--hydra-help", "--run", "-r")
WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd")
WITH_VALUE += ("--config-name", "-cn", "--config-path", "-cp", "--shell-completion", "-sc")


def validate_arguments(arguments: Sequence[str], conf: Path) -> list[str]:
    """Returns the command line with its flags first, as Hydra needs them.

    Raises:
        ConfigError: For an unknown flag, or an override that no configuration could take.
    """
    flags, overrides = split(arguments)
    overrides = [_renamed(override) for override in overrides]
    sweeping = any(flag in SWEEP for flag in flags) or swept(overrides)
    options = groups(conf, *further(flags, overrides))
    for override in overrides:
        found = _wrong_form(override) or _wrong_option(override, options, sweeping)
        if found is not None:
            raise found
    return [*flags, *_without_null(overrides)]


def _renamed(override: str) -> str:
    """Returns an override under today's name of its key; an old one is taken for one release."""
    key, equals, value = override.partition("=")
    bare = key.lstrip("+~")
    for old, new in RENAMED.items():
        if bare == old or bare.startswith(f"{old}."):
            today = key.replace(old, new, 1)
            console.print(f"note: {bare} is now called {today.lstrip('+~')}", markup=False)
            return f"{today}{equals}{value}"
    return override


def swept(overrides: Iterable[str]) -> bool:
    """Returns whether a grid of `conf/sweep` is chosen, which makes any command a sweep."""
    chosen = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == "sweep"]
    return bool(chosen) and chosen[-1] != "none"


def sweeps(arguments: Sequence[str]) -> bool:
    """Returns whether a checked command line is a sweep of ours.

    Hydra keeps what only it knows: its own flags, and sweepers or launchers chosen by hydra/...
    """
    flags, overrides = split(arguments)
    names = {flag.partition("=")[0] for flag in flags if flag.startswith("-")}
    if names - OURS or any(o.lstrip("+~").startswith("hydra/") for o in overrides):
        return False
    return bool(names & set(SWEEP)) or swept(overrides)


def _without_null(overrides: list[str]) -> list[str]:
    """Drops `debug=null` with what it takes back; Hydra knows no such choice on a command line."""
    taken_back = {f"{group}=" for group in OPTIONAL if f"{group}=null" in overrides}
    return [o for o in overrides if not o.startswith(tuple(taken_back))]


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the flags, each followed by its value, and the overrides of a command line."""
    flags, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        name = argument.partition("=")[0]
        if not argument.startswith("-"):
            overrides.append(argument)
        elif name in ALONE:
            flags.append(argument)
        elif name in WITH_VALUE:
            flags.append(argument)
            if "=" not in argument:
                flags.append(next(rest, ""))
        else:
            close = nearest(name.lstrip("-"), [*groups(), *(f.lstrip("-") for f in ALONE)])
            fix = argument.replace(name, close, 1) if close in groups() else f"--{close}"
            raise ConfigError(
                f"{argument} is not a flag; settings are written KEY=VALUE, without dashes",
                fix if close else HELP,
            )
    return flags, overrides


def further(flags: Sequence[str], overrides: Sequence[str]) -> list[Path]:
    """Returns the folders of a user's own options: Hydra's --config-dir and hydra.searchpath.

    Raises:
        ConfigError: If one is no folder.
    """
    named = []
    for flag, after in zip(flags, [*flags[1:], ""], strict=False):
        name, equals, value = flag.partition("=")
        if name in ("--config-dir", "-cd"):
            named.append(value if equals else after)
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "hydra.searchpath":
            places = [place.strip(" '\"") for place in value.strip("[]").split(",")]
            named += [place.removeprefix("file://") for place in places if place[:4] != "pkg:"]
    folders = [Path(name) for name in named if name]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"{folder} is not a folder of configuration", "--config-dir FOLDER that exists"
            )
    return folders


def _wrong_form(override: str) -> UserError | None:
    key, equals, _ = override.lstrip("+~").partition("=")
    if not key:
        return ConfigError(f"{override!r} names no key; write KEY=VALUE", HELP)
    if not equals and not override.startswith("~"):
        return ConfigError(f"{override} is not an override; write KEY=VALUE", f"{key}=...")
    return None


def _wrong_option(
    override: str, options: Mapping[str, list[str]], sweeping: bool
) -> UserError | None:
    """Returns what is wrong with the choice of a group's option, or none."""
    key, _, value = override.lstrip("+~").partition("=")
    group = key.partition("@")[0]
    if group not in options:
        return None
    if override.startswith("~"):
        return ConfigError(f"{override} removes a group that every run needs", f"{group}=OPTION")
    if override.startswith("+"):
        return ConfigError(f"{override} adds a group that is already there", f"{group}={value}")
    if value.startswith("{"):
        return ConfigError(
            f"{override} gives settings where an option is chosen", f"{group}.KEY=VALUE for each"
        )
    listing = value.startswith("[") and value.endswith("]")
    names = [name.strip() for name in (value[1:-1] if listing else value).split(",")]
    if len(names) > 1 and not sweeping:
        return ConfigError(
            f"{override} names several options", f"unlearn -m {group}={','.join(names)}"
        )
    allowed = options[group]
    for name in names:
        if name not in allowed and not (name == "null" and group in OPTIONAL):
            close = nearest(name, allowed)
            known = listed(allowed, 24) or "none yet"
            return ConfigError(
                f"{group}={name} is not one of the {group} options: {known}",
                f"{group}={close}" if close else HELP,
            )
    return None


def explain(error: Exception, arguments: Iterable[str], conf: Path) -> UserError | None:
    """Returns the user's mistake behind an exception, or none when it is not one.

    Args:
        error: What Hydra or OmegaConf raised.
        arguments: The command line.
        conf: Folder of the configuration.
    """
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return None
    flags, overrides = split(list(arguments))
    settings = Settings([conf, *further(flags, overrides)], overrides)
    for override in overrides:
        found = settings.mistake(override)
        if found is not None:
            return found
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    key = getattr(error, "full_key", None)
    return ConfigError(f"{key}: {first}" if key else first, HELP)


class Settings:
    """The dotted keys a command line can set: of the options it chooses, and of all others."""

    def __init__(self, folders: Sequence[Path], overrides: Iterable[str]) -> None:
        self.options = groups(*folders)
        main: Any = OmegaConf.to_container(OmegaConf.load(folders[0] / "config.yaml"))
        defaults = [entry for entry in main["defaults"] if entry != "_self_"]
        self.chosen = {group: name for entry in defaults for group, name in entry.items()}
        pairs = [override.partition("=") for override in overrides]
        self.chosen |= {group: name for group, _, name in pairs if group in self.options}
        self.by_option = {
            (group, name): _keys(path, group)
            for group, names in self.options.items()
            for name in names
            for folder in reversed(folders)  # of two files of one name the first folder's counts
            if (path := folder / group / f"{name}.yaml").is_file()
        }
        here = [self.by_option.get((g, str(n)), set()) for g, n in self.chosen.items()]
        known = {k for k in _flat(main) if not k.startswith(("defaults", "hydra"))}
        self.known = known.union(*here)

    def mistake(self, override: str) -> UserError | None:
        """Returns what is wrong with an override of a key, or none."""
        key, _, value = override.lstrip("+~").partition("=")
        parent, _, last = key.rpartition(".")
        if key in self.options or parent.partition(".")[0] == "hydra":
            return None
        if key in self.known:
            several = "," in value and value[:1] not in "[{'\""
            return (
                ConfigError(
                    f"{key}={value} gives several values, which only a sweep can take",
                    f"unlearn -m {key}={value}, or {key}=[{value}] for one list",
                )
                if several
                else None
            )
        beside = sorted(k.rpartition(".")[2] for k in self.known if k.rpartition(".")[0] == parent)
        beside = beside if parent else sorted({*self.options, *beside})
        close = nearest(key, [*self.options, *self.known])
        bare = sorted(k for k in self.known if k.rpartition(".")[2] == key)
        others = sorted(f"{g}={n}" for (g, n), keys in self.by_option.items() if key in keys)
        fix = f"{close}={value or '...'}" if close else HELP
        if others:
            fix = f"{' or '.join(others[:3])} has it"
        elif bare and not close:
            fix = f"{bare[0]}={value or '...'}"
        group = parent.partition(".")[0]
        of = f" of {group}={self.chosen[group]}" if group in self.options and last else ""
        return ConfigError(f"{key} is not a setting{of}; known here: {listed(beside, 24)}", fix)


def _keys(path: Path, group: str) -> set[str]:
    content = OmegaConf.to_container(OmegaConf.load(path))
    if path.read_text(encoding="utf-8").startswith("# @package _global_"):
        return {key for key in _flat(content) if not key.startswith("defaults")}
    return {group} | _flat(content, f"{group}.")


def _flat(content: Any, prefix: str = "") -> set[str]:
    if not isinstance(content, Mapping):
        return set()
    names = {f"{prefix}{name}" for name in content}
    return names.union(*(_flat(value, f"{prefix}{name}.") for name, value in content.items()))
