"""Command line: flags and overrides, checked and normalized before Hydra sees them.

Whether a dotted key exists and what it may hold is for `build` to say, once composed; here stand
the form of a command, the choice of options, and how many jobs a sweep may have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException

from unlearn_runner.config import hydra_node
from unlearn_runner.config.checkpoint import refuse_training
from unlearn_runner.config.groups import CONF, OPTIONAL, PLACED, groups
from unlearn_runner.config.open_unlearning import refuse_open_unlearning
from unlearn_runner.config.synonyms import synonym
from unlearn_runner.errors import ConfigError, assignment, listed, nearest, shortened
from unlearn_runner.utils.console import console

SWEEP = ("-m", "--multirun")
CONFIG_DIR = ("--config-dir", "-cd")
ALONE = (*SWEEP, "--resolve", "--hydra-help")
WITH_VALUE = (*CONFIG_DIR, "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
MAX_JOBS = 10_000
"""Jobs of one sweep."""


@dataclass(frozen=True)
class CommandLine:
    """A checked command line."""

    flags: tuple[str, ...]
    """Each followed by its value."""
    overrides: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    """Of a user's own options: of `--config-dir` and `hydra.searchpath`."""

    @property
    def words(self) -> list[str]:
        """The command line again, flags first."""
        return [*self.flags, *self.overrides]

    @cached_property
    def for_hydra(self) -> bool:
        """Whether it needs what only Hydra's own application does.

        Its information flags, its launchers and sweepers, and settings of its own node.
        """
        names = {flag.partition("=")[0] for flag in self.flags if flag.startswith("-")}
        keys = {o.lstrip("+~").partition("=")[0] for o in self.overrides}
        own = any(k.startswith(("hydra/", "hydra.")) or k == "hydra" for k in keys - {SEARCHPATH})
        return bool(names - {*SWEEP, *CONFIG_DIR}) or own

    @cached_property
    def is_sweep(self) -> bool:
        """Whether it is several jobs."""
        return bool({*SWEEP} & {*self.flags}) or chooses_sweep(self.overrides)


SEARCHPATH = "hydra.searchpath"


def parse(arguments: Sequence[str]) -> CommandLine:
    """Returns a command line with its flags apart, and values that Hydra can read.

    Raises:
        ConfigError: For an unknown flag, or an override that no configuration could take.
    """
    refuse_open_unlearning(arguments)
    flags, overrides = split(arguments)
    overrides = [_renamed(override) for override in overrides]
    sweeping = bool({*SWEEP} & {*flags}) or chooses_sweep(overrides)
    folders = config_dirs(flags, overrides)
    options, jobs, found = groups(CONF, *folders), 1, []
    for override in overrides:
        _check_form(override)
        if override.lstrip("+~").startswith(("hydra.", "hydra/", "hydra=", "hydra@")):
            hydra_node.check_override(override)
        _check_option(override, options, sweeping)
        override, values = _readable(override, options, sweeping)
        jobs *= values
        if jobs > MAX_JOBS:
            raise ConfigError(
                f"{shortened(override)}: a sweep of {jobs} jobs; allowed: at most {MAX_JOBS}"
            )
        found.append(override)
    refuse_training(found)
    return CommandLine(tuple(flags), tuple(_without_null(found)), tuple(folders))


def is_value(override: str, options: Mapping[str, object]) -> bool:
    """Returns whether an override sets a dotted key: no group's option, nothing of Hydra's own."""
    key = override.lstrip("+").partition("=")[0]
    special = key[:1] == "~" or "/" in key or "@" in key or key in options or key in PLACED
    return not special and key.partition(".")[0] != "hydra"


def _renamed(override: str) -> str:
    """Returns an override under today's name of its key; an old one is taken for one release."""
    match = re.fullmatch(r"([+~]*)reference(\.[^=]*)?(=.*)?", override, re.DOTALL)
    if match is None:
        return override
    prefix, rest, value = (part or "" for part in match.groups())
    console.print(f"note: reference{rest} is now called retain_model{rest}", markup=False)
    return f"{prefix}retain_model{rest}{value}"


def chooses_sweep(overrides: Sequence[str]) -> bool:
    """Returns whether a grid of `conf/sweep` is chosen, which makes any command a sweep."""
    chosen = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == "sweep"]
    return bool(chosen) and chosen[-1] != "none"


def _without_null(overrides: list[str]) -> list[str]:
    """Drops `debug=null` with what it takes back; Hydra knows no such choice on a command line."""
    taken_back = {f"{group}=" for group in OPTIONAL if f"{group}=null" in overrides}
    return [o for o in overrides if not o.startswith(tuple(taken_back))]


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the flags, each followed by its value, and the overrides of a command line."""
    flags, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            overrides.append(argument)
        elif name in ALONE:
            flags.append(argument)
        elif name in WITH_VALUE:
            value = value if equals else next(rest, "")
            if not value or (name in CONFIG_DIR and value.startswith("-")):
                raise ConfigError(f"{name} needs a value; allowed: {name} followed by one")
            flags += [name, value]
        else:
            known = [*groups(), *(f.lstrip("-") for f in (*ALONE, *WITH_VALUE))]
            close = nearest(name.lstrip("-"), known)
            fix = argument.replace(name, close, 1) if close in groups() else f"--{close}"
            raise ConfigError(
                f"{argument} is not a flag; settings are written KEY=VALUE, without dashes",
                fix if close else "",
            )
    return flags, overrides


def config_dirs(flags: Sequence[str], overrides: Sequence[str]) -> list[Path]:
    """Returns the folders of a user's own options: Hydra's --config-dir and hydra.searchpath.

    Raises:
        ConfigError: If one is no folder.
    """
    names = [value for flag, value in pairwise(flags) if flag in CONFIG_DIR]
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == SEARCHPATH:
            places = [place.strip(" '\"") for place in value.strip("[]").split(",")]
            names += [place.removeprefix("file://") for place in places if place]
    folders = [Path(name) for name in names]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"{folder} is not a folder of configuration; allowed: a folder that exists"
            )
    return [folder.absolute() for folder in folders]


def _check_form(override: str) -> None:
    key, equals, _ = override.lstrip("+~").partition("=")
    if not key:
        raise ConfigError(f"{override!r} names no key; settings are written KEY=VALUE")
    if not equals and not override.startswith("~"):
        options = groups().get(key)
        more = f"; {key} options: {listed(options, 24)}" if options else ""
        raise ConfigError(
            f"{shortened(override)} is not an override; settings are written KEY=VALUE{more}"
        )


def _check_option(override: str, options: Mapping[str, list[str]], sweeping: bool) -> None:
    """Refuses what a group does not take.

    Raises:
        ConfigError: For an option that is not there, and for any other form of a group's override.
    """
    key, _, value = override.lstrip("+~").partition("=")
    group = PLACED.get(key, key.partition("@")[0])
    if group not in options:
        return
    named = key if key in PLACED else group
    allowed = options[group]
    if group == "model" and value not in allowed and (value[:1] in "/.~" or "/" in value):
        raise ConfigError(
            f"{shortened(override)} names a model where an option is chosen; one with a chat "
            "template is model=chat, any other",
            f"model=hf {assignment('model.path', value)}",
        )
    if override.startswith("~"):
        raise ConfigError(
            f"{override} removes a group that every run needs; {group} options: "
            f"{listed(allowed, 24)}",
            f"{group}=none" if "none" in allowed else "",
        )
    if value.startswith("{"):
        raise ConfigError(
            f"{override} gives settings where an option is chosen; {group} options: "
            f"{listed(allowed, 24)}"
        )
    listing = value.startswith("[") and value.endswith("]")
    names = [name.strip() for name in (value[1:-1] if listing else value).split(",")]
    for name in names:
        if name not in allowed and not (name == "null" and group in OPTIONAL):
            known = listed(allowed, 24) or "none yet"
            raise ConfigError(
                f"{named}={shortened(name)} is not one of the {group} options: {known}",
                _other_option(group, name, options).replace(f"{group}=", f"{named}="),
            )
    if len(names) > 1 and (listing or not sweeping):
        raise ConfigError(
            f"{override} names several options", f"unlearn -m {named}={','.join(names)}"
        )
    if override.startswith("+"):
        raise ConfigError(f"{override} adds a group that is already there", f"{named}={value}")


def _other_option(group: str, name: str, options: Mapping[str, list[str]]) -> str:
    """Returns the choice that was meant, where that is plain."""
    last = [option for option in options[group] if option.rpartition("/")[2] == name]
    if close := last[0] if len(last) == 1 else "":
        return f"{group}={close}"
    if meant := synonym(group, name):
        return meant
    elsewhere = [other for other, names in options.items() if name in names and name != "none"]
    if elsewhere:
        return f"{elsewhere[0]}={name}"
    close = nearest(name, options[group])
    return f"{group}={close}" if close else ""


def _readable(override: str, options: Mapping[str, object], sweeping: bool) -> tuple[str, int]:
    """Returns an override that Hydra can read, and how many values it has.

    A prefix says nothing: a setting that no file lists is one all the same. A value that is no
    value of Hydra's grammar, as most paths are, is text.
    """
    if is_value(override, options):
        override = override.lstrip("+")
    key, _, value = override.partition("=")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except ValueError:
        raise ConfigError(
            f"{shortened(override)} is a number too long; known here: 4,000 digits"
        ) from None
    except HydraException as error:
        if value[:1] in "[{'\"" or "${" in value or not is_value(override, options):
            first = str(error).splitlines()[0]
            raise ConfigError(f"{shortened(override)} cannot be read: {first}") from None
        return assignment(key, value, shell=False), 1
    if parsed.is_sweep_override() and not sweeping:
        text = assignment(key, value)
        sweep = assignment(key, value, verbatim=True, before="unlearn -m ")
        path = "/" in value
        raise ConfigError(
            f"{shortened(override)} gives several values, which only a sweep can take; "
            + (f"a sweep is {sweep}" if path else f"one text is {text}"),
            text if path else sweep,
        )
    if parsed.value() == {} and value:
        raise ConfigError(
            f"{override} changes nothing: settings are put beside those that are there; allowed: "
            f"{key}.NAME=VALUE, and ~{key}.NAME takes one out"
        )
    return override, _count(parsed)


def _count(parsed: Override) -> int:
    """Returns how many values a swept override has, without listing them.

    Raises:
        ConfigError: If it has none.
    """
    swept, count = parsed.value(), 1
    if isinstance(swept, RangeSweep):
        start, stop, step = swept.start or 0, swept.stop or 0, swept.step
        count = math.ceil((stop - start) / step) if step else 0
    elif isinstance(swept, ChoiceSweep):
        count = len(swept.list)
    if count < 1:
        key = parsed.key_or_group
        raise ConfigError(
            f"{shortened(parsed.input_line or key)} has no values", f"unlearn -m {key}=1,2,3"
        )
    return count
