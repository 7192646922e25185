"""Turns a composed configuration into frozen, validated dataclasses.

A component's dataclass is its schema: field types and `annotated_types` bounds say what is allowed,
pydantic checks them, and this module adds what people need: the dotted key, the nearest match, and
a refusal of keys that nobody reads. Nothing here or in a component's module loads torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter, ValidationError

from unlearn_runner.config.groups import CONF, PLACED, groups
from unlearn_runner.config.synonyms import note, synonym
from unlearn_runner.errors import ConfigError, assignment, listed, nearest, shortened
from unlearn_runner.utils.files import leaves

T = TypeVar("T")

TARGET = "_target_"
TRUSTED = ("unlearn_runner",)
MAX_INT = 2**53
"""Beyond it whole numbers are no floats, and nothing that is counted here comes near."""
SIGNS = {Gt: ">", Ge: ">=", Lt: "<", Le: "<="}


def build(node: object, schema: type[T], key: str = "", trusted: tuple[str, ...] = TRUSTED) -> T:
    """Builds the object that a configuration node describes.

    Args:
        node: A plain container (no OmegaConf types), as read from the composed configuration.
        schema: The dataclass the result must be, or a base class of it when the node names its own
            class under `_target_`.
        key: Dotted path of the node, for messages.
        trusted: Packages that `_target_` may come from.

    Raises:
        ConfigError: For an unknown key, a wrong type, a value out of range or a forbidden target.
    """
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"{key}={shortened(node)} must be a group of settings ({schema.__name__}), not a "
            f"single value; allowed: {key}.KEY=VALUE for {listed(_fields(schema), 24)}"
        )
    node = dict(node)
    cls = component(node.pop(TARGET), schema, key, trusted) if TARGET in node else schema
    known = hints(cls)
    for name, value in node.items():
        if name not in _fields(cls):
            _refuse_unknown(str(name), value, cls, node, key)
    for name, value in node.items():
        _check_number(value, known[name], _join(key, name))
    values = {
        name: _nested(value, known[name], _join(key, name), trusted) for name, value in node.items()
    }
    try:
        return _adapter(cls).validate_python(values)
    except ValidationError as error:
        raise _explain(error, values, known, key) from None


def complete(node: Any, built: Any) -> Any:
    """Returns a configuration node with every field of the object it was built into.

    What a YAML leaves to the class stands in a run's `config.yaml` all the same.
    """
    if isinstance(node, Mapping) and isinstance(built, Mapping):
        return {key: complete(value, built[str(key)]) for key, value in node.items()}
    if not isinstance(node, Mapping) or not dataclasses.is_dataclass(built):
        return node
    cls = type(built)
    found = {TARGET: node[TARGET]} if TARGET in node else {}
    for name in _fields(cls):
        value = getattr(built, name)
        found[name] = (
            complete(node[name], value) if name in node else plain(value, hints(cls)[name])
        )
    return found


def plain(value: Any, hint: Any = None) -> Any:
    """Returns a built value as a configuration holds it."""
    if dataclasses.is_dataclass(value):
        cls, known = type(value), hints(type(value))
        named = {} if cls in options(hint) else {TARGET: f"{cls.__module__}.{cls.__qualname__}"}
        return named | {n: plain(getattr(value, n), known[n]) for n in _fields(cls)}
    if isinstance(value, Mapping):
        inner = [a for o in options(hint) for a in typing.get_args(o)[1:]]
        return {key: plain(item, inner[0] if inner else None) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _fields(cls: type) -> list[str]:
    """Returns the settings of a component; none for what is no dataclass."""
    found = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return [item.name for item in found if item.init]


def settings(hint: Any, node: object = None, key: str = "", entries: bool = False) -> Iterator[str]:
    """Yields the dotted keys that can be set below a node, of the classes that it names.

    Args:
        hint: What the node describes: a dataclass, or what else a field's hint can be.
        node: The configuration.
        key: Of the node.
        entries: Also those inside entries of dictionaries; an entry itself is no setting.
    """
    content = node if isinstance(node, Mapping) else {}
    for cls in options(hint):
        if isinstance(cls, type) and dataclasses.is_dataclass(cls):
            with contextlib.suppress(ConfigError):
                cls = component(content[TARGET], cls, key, TRUSTED) if TARGET in content else cls
            for name in _fields(cls):
                yield _join(key, name)
                yield from settings(hints(cls)[name], content.get(name), _join(key, name), entries)
        elif entries and typing.get_origin(cls) is dict:
            for name, item in content.items():
                yield from settings(typing.get_args(cls)[1], item, _join(key, str(name)), entries)


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Returns the types of a class's fields, with their bounds."""
    return typing.get_type_hints(cls, include_extras=True)


@functools.cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    """Making one takes milliseconds, and a grid asks for the same ones at every point."""
    return TypeAdapter(cls)


def _check_number(value: object, hint: Any, key: str) -> None:
    """Refuses what pydantic would quietly take for a number: true, infinity, 10 to the 30."""
    truth = isinstance(value, bool) and bool not in options(hint)
    endless = isinstance(value, float) and not math.isfinite(value)
    if truth or endless or (isinstance(value, int) and abs(value) > MAX_INT):
        shown = shortened(str(value).lower())
        raise ConfigError(f"{key}={shown} is not allowed; allowed: {describe(hint)}")


def _nested(value: object, hint: Any, key: str, trusted: tuple[str, ...]) -> object:
    """Builds dataclasses below a field, in dictionaries too; leaves other values to pydantic."""
    if isinstance(value, Mapping):
        for option in options(hint):
            if option in (str, int, float, bool):
                continue
            if dataclasses.is_dataclass(option) or TARGET in value:
                return build(value, option, key, trusted)  # pyright: ignore[reportArgumentType]
            if typing.get_origin(option) in (dict, Mapping, types.MappingProxyType):
                inner = typing.get_args(option)[1]
                return {
                    str(k): _nested(v, inner, _join(key, str(k)), trusted) for k, v in value.items()
                }
        if {*options(hint)} <= {str, int, float, bool}:
            raise ConfigError(f"{key} must be one value, not a group; allowed: {describe(hint)}")
    return value


def options(hint: Any) -> list[Any]:
    """Returns the alternatives of a field's type, `None` and annotations apart."""
    if typing.get_origin(hint) is typing.Annotated:
        return options(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [o for arg in typing.get_args(hint) if arg is not type(None) for o in options(arg)]
    return [hint]


def component(target: object, schema: type[T], key: str, trusted: tuple[str, ...]) -> type[T]:
    """Returns the class that a `_target_` names.

    Raises:
        ConfigError: If it is not of a trusted package, or no dataclass that extends the schema.
    """
    where = _join(key, TARGET)
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(
            f"{where}={shortened(target)} must be a dotted class name; allowed: "
            "package.module.Class"
        )
    if target.split(".")[0] not in trusted:
        raise ConfigError(
            f"{where}={target} comes from a package that is not trusted (trusted: "
            f"{listed(trusted)}); to run its code",
            assignment("trusted", [target.split(".")[0]]),
        )
    module_name, _, class_name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise
        raise ConfigError(
            f"{where}={target}: there is no module {module_name}; allowed: a module that Python "
            "finds, with PYTHONPATH=FOLDER before the command where it is your own"
        ) from None
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and issubclass(cls, schema)):
        kin = (n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, schema))
        near = nearest(class_name, kin)
        raise ConfigError(
            f"{where}={target} is not a {schema.__name__} dataclass; allowed: a class that extends "
            f"{schema.__name__}",
            assignment(where, f"{module_name}.{near}") if near else "",
        )
    return cls


def _refuse_unknown(
    name: str, value: object, cls: type, node: Mapping[str, Any], key: str
) -> typing.NoReturn:
    """Refuses a key that nobody reads.

    Raises:
        ConfigError: With the setting that was meant, where that is plain: a word of another
            project, the same word in another place, or a slip of the pen.
    """
    where = next(leaves(value, _join(key, name)))[0]
    fields = _fields(cls)
    of, known = (f" of {cls.__name__}", listed(fields, 24) or "none") if key else ("", "")
    known = known or listed(fields, 40)
    if words := note(where):
        raise ConfigError(f"{shortened(where)} is not a setting{of}: {words}")
    fix, having = _meant(name, value, cls, node, key), _options_with(key, name)
    if not fix and having:
        known += f"; {' and '.join(having[:3])} {'has' if len(having) == 1 else 'have'} it"
        fix = f"{having[0]} {assignment(where, value)}" if len(having) == 1 else ""
    raise ConfigError(f"{shortened(where)} is not a setting{of}; known here: {known}", fix)


def _options_with(group: str, name: str) -> list[str]:
    """Returns the options of a group whose class has a setting of that name."""
    found = {}
    folder = PLACED.get(group, group)
    for option in groups().get(folder, ()):
        text = (CONF / folder / f"{option}.yaml").read_text(encoding="utf-8")
        if match := re.search(r"^_target_: (unlearn_runner\.\S+)\.(\w+)$", text, re.MULTILINE):
            cls = getattr(importlib.import_module(match[1]), match[2], object)
            if name in _fields(cls) and cls not in found.values():
                found[f"{group}={option}"] = cls
    kinds = list(found.values())  # of a class and others built on it, the class itself
    return [n for n, cls in found.items() if not any(k in kinds for k in cls.__mro__[1:])]


def _meant(name: str, value: object, cls: type, node: Mapping[str, Any], key: str) -> str:
    """Returns the override that was meant, or nothing."""
    given = list(leaves(value, _join(key, name)))
    found = [synonym(leaf, item) for leaf, item in given]
    if any(found):
        return " ".join(filter(None, found))
    same = [k for k in settings(cls, node, key) if k.rpartition(".")[2] == name]
    if not key and same and not isinstance(value, Mapping):
        return assignment(min(same, key=_distance), value)
    if not (close := nearest(name, _fields(cls))):
        return ""
    meant = [(_join(key, close) + leaf.removeprefix(_join(key, name)), v) for leaf, v in given]
    return " ".join(assignment(*pair) for pair in meant)


def _distance(key: str) -> tuple[int, int]:
    """Returns what puts the settings of unlearning before those of other stages."""
    order = ("train", "method", "rectifier", "adapter", "evaluate", "parallel")
    group = key.partition(".")[0]
    return key.count("."), order.index(group) if group in order else len(order)


def _explain(
    error: ValidationError, values: Mapping[str, Any], known: Mapping[str, Any], key: str
) -> ConfigError:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if name not in known:
        return ConfigError(f"{key}: {first['msg'].removeprefix('Value error, ')}")
    where, value, hint = _join(key, name), values.get(name), known[name]
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return ConfigError(f"{where} must be set; allowed: {describe(hint)}")
    if isinstance(value, Mapping) and len(first["loc"]) > 1 and first["loc"][1] in value:
        inner = first["loc"][1]
        where, value = _join(where, str(inner)), value[inner]
        hint = typing.get_args(options(hint)[0])[1]
    shown = shortened("null" if value is None else value)
    problem = f"{where}={shown} is not allowed; allowed: {describe(hint)}"
    literals = (o for o in options(hint) if typing.get_origin(o) is typing.Literal)
    close = nearest(str(value), (str(arg) for o in literals for arg in typing.get_args(o)))
    return ConfigError(problem, assignment(where, close) if close else "")


def describe(hint: Any) -> str:
    """Returns what a field accepts, in words: "a number > 0 and <= 1", "after or before"."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        notes = (note for note in args[1:] if type(note) in SIGNS)
        bounds = (f"{SIGNS[type(note)]} {dataclasses.astuple(note)[0]}" for note in notes)
        return f"{describe(args[0])} {' and '.join(bounds)}".strip()
    if origin is typing.Literal:
        return " or ".join(str(arg) for arg in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if arg is type(None) else describe(arg) for arg in args)
    if origin in (tuple, list):
        return f"a list of {describe(args[0])}"
    if origin is dict:
        return "entries by name"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)
