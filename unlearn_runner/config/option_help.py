"""What `unlearn method=npo --help` says: an option's fields, read from its class and its file.

A component is its own schema, so types, bounds and defaults are the class's, the meaning of a field
is the text below it, and what the option's file changes is that file's. Nothing is composed.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unlearn_runner.config import build
from unlearn_runner.config.groups import CONF, OPTIONAL, groups
from unlearn_runner.config.root import Run
from unlearn_runner.errors import ConfigError, as_value, listed, nearest, shortened
from unlearn_runner.utils.files import leaves

WIDTH = 100
DEEPEST = 3
"""Dots of a key that is listed by itself."""


def print_options(arguments: Sequence[str]) -> None:
    """Prints the options that a command line chooses: what each is, and each of its settings.

    Raises:
        ConfigError: If there is no such option, or its class cannot be had.
    """
    words = [word for word in arguments if not word.startswith("-")]
    folders: list[Path] = []
    if len(words) < len(arguments) - 1:  # flags beside --help itself
        from unlearn_runner.config.command_line import config_dirs, split

        flags, words = split([word for word in arguments if word not in ("--help", "-h")])
        folders = config_dirs(flags, words)
    packages = [word.partition("=")[2] for word in words if word.partition("=")[0] == "trusted"]
    trusted = (*build.TRUSTED, *(name for text in packages for name in yaml.safe_load(text)))
    known, first = groups(CONF, *folders), True
    for word in words:
        group, _, option = word.partition("=")
        if group in known:
            print(end="" if first else "\n")
            first = False
            if option:
                _print_option(group, option, folders, trusted)
            else:
                _print_group(group, known[group], folders)


def _print_group(group: str, options: Sequence[str], folders: Sequence[Path]) -> None:
    for name in options:
        print(f"{group}={name:<24}  {_comment(_file(group, name, folders))[0]}")
    print(f"\nunlearn {group}={options[0]} --help says what an option's settings are")


def _print_option(
    group: str, option: str, folders: Sequence[Path], trusted: tuple[str, ...]
) -> None:
    options = groups(CONF, *folders)[group]
    if option not in options:
        close = nearest(option, options)
        raise ConfigError(
            f"{group}={option} is not one of the {group} options: {listed(options, 24)}",
            f"unlearn {group}={close} --help" if close else "",
        )
    print(f"{group}={option}\n")
    print("\n".join(f"  {line}".rstrip() for line in _comment(_file(group, option, folders))))
    own, others = _content(group, option, folders)
    if group in OPTIONAL or not (own or group in _GROUPS):
        print(f"\n{textwrap.indent(yaml.safe_dump(others, sort_keys=False), '  ')}")
        return
    cls = _GROUPS[group]
    if build.TARGET in own:
        cls = build.component(own[build.TARGET], cls, group, trusted)
    print()
    _print_paragraph(inspect.getdoc(cls) or "", 2)
    for line in _settings(cls, own, group):
        print(line)
    if others:
        also = (f"{key}={as_value(value)}" for key, value in leaves(others))
        print("also sets")
        _print_paragraph("  ".join(also), 2)


_GROUPS: dict[str, type] = {
    name: next(t for t in build.options(hint) if isinstance(t, type))
    for name, hint in build.hints(Run).items()
    if any(dataclasses.is_dataclass(t) for t in build.options(hint))
}
"""Class that an option of each group must extend."""


def _file(group: str, option: str, folders: Sequence[Path]) -> Path:
    paths = (folder / group / f"{option}.yaml" for folder in (*folders, CONF))
    return next(path for path in paths if path.is_file())


def _comment(path: Path) -> list[str]:
    """Returns the comment that a file begins with."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            found.append(line.removeprefix("#").removeprefix(" "))
    return found or [""]


def _content(
    group: str, option: str, folders: Sequence[Path]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what an option sets in its own group and elsewhere, with what it builds upon."""
    path = _file(group, option, folders)
    text = path.read_text(encoding="utf-8")
    found = yaml.safe_load(text) or {}
    own: dict[str, Any] = {}
    for base in found.pop("defaults", []):
        name = base if isinstance(base, str) else ""
        name, _, below = name.removeprefix(f"/{group}/").partition("@")
        if name in groups(CONF, *folders)[group]:
            content = _content(group, name, folders)[0]
            own = _merged(own, content if below in ("", "_here_") else {below: content})
    if "@package _global_" in text.partition("\n")[0]:
        return _merged(own, found.pop(group, {})), found
    return _merged(own, found), {}


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(one)
    for key, value in other.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = _merged(found[key], value) if both else value
    return found


def _settings(cls: type, node: Mapping[str, Any], key: str) -> Iterator[str]:
    """Yields the lines of a class's settings, with the values of an option's node."""
    meanings, own = _meanings(cls), vars(cls).get("__annotations__", {})
    for field in sorted(dataclasses.fields(cls), key=lambda field: field.name not in own):
        if not field.init:
            continue
        where, hint = f"{key}.{field.name}", build.hints(cls)[field.name]
        inner = _inner(cls, field, node.get(field.name), hint, where)
        if inner is not None and where.count(".") < DEEPEST:
            yield from _settings(*inner, where)
            continue
        value = node.get(field.name, _default(field))
        shown = "must be set"
        if value is not dataclasses.MISSING:
            shown = f"= {shortened(as_value(value), WIDTH)}".replace("\n", r"\n")
        yield f"{where} {shown}"
        yield f"      {build.describe(hint)}"
        if meaning := meanings.get(field.name):
            yield from textwrap.wrap(
                meaning, WIDTH - 6, initial_indent=" " * 6, subsequent_indent=" " * 6
            )


def _inner(
    cls: type, field: dataclasses.Field[Any], value: Any, hint: Any, where: str
) -> tuple[type, Mapping[str, Any]] | None:
    """Returns the class and the node below a field, where settings stand there."""
    kinds = [t for t in build.options(hint) if isinstance(t, type) and dataclasses.is_dataclass(t)]
    default = _default(field)
    absent = value is None and (default is None or default is dataclasses.MISSING)
    if not kinds or absent or isinstance(value, str):  # ${benchmark.training.source}, say
        return None
    node: dict[str, Any] = build.plain(default, hint) if dataclasses.is_dataclass(default) else {}
    node = _merged(node, value or {})
    if build.TARGET in node:
        return build.component(node.pop(build.TARGET), kinds[0], where, build.TRUSTED), node
    return kinds[0], node


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _meanings(cls: type) -> dict[str, str]:
    """Returns the text below each field, of the class and of those that it extends."""
    found: dict[str, str] = {}
    for kind in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(kind):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _print_paragraph(text: str, indent: int) -> None:
    for paragraph in text.split("\n\n"):
        lines = textwrap.wrap(" ".join(paragraph.split()), WIDTH - indent)
        print(textwrap.indent("\n".join(lines), " " * indent))
        print()
