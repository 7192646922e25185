"""Turns a composed configuration into frozen, validated dataclasses.

A component's dataclass is its schema: field types and `annotated_types` bounds say what is allowed,
pydantic checks them, and this module adds what people need: the dotted key, the nearest match, and
a refusal of keys that nobody reads. Nothing here or in a component's module loads torch.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import annotated_types
from pydantic import TypeAdapter, ValidationError

from unlearn_runner.errors import HELP, ConfigError, listed, nearest

T = TypeVar("T")

TARGET = "_target_"
TRUSTED = ("unlearn_runner",)


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
            f"{key}={node!r} must be a group of settings ({schema.__name__}), not a single value",
            f"{key}.KEY=VALUE for each",
        )
    node = dict(node)
    cls = _component(node.pop(TARGET), schema, key, trusted) if TARGET in node else schema
    hints = _hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    for name in node:
        if name not in fields:
            _refuse_unknown(str(name), fields, key)
    for name, value in node.items():
        _refuse_odd(value, hints[name], _join(key, name))
    values = {
        name: _nested(value, hints[name], _join(key, name), trusted) for name, value in node.items()
    }
    try:
        return _adapter(cls).validate_python(values)
    except ValidationError as error:
        raise _explain(error, values, hints, key) from None


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


@functools.cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    """Making one takes milliseconds, and a grid asks for the same ones at every point."""
    return TypeAdapter(cls)


def _refuse_odd(value: object, hint: Any, key: str) -> None:
    """Refuses what pydantic would quietly take for a number: true, and infinity."""
    odd = isinstance(value, bool) and bool not in _options(hint)
    if odd or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{key}={str(value).lower()} is not allowed; allowed: {describe(hint)}")


def _nested(value: object, hint: Any, key: str, trusted: tuple[str, ...]) -> object:
    """Builds dataclasses below a field, in dictionaries too; leaves other values to pydantic."""
    if isinstance(value, Mapping):
        for option in _options(hint):
            if dataclasses.is_dataclass(option) or TARGET in value:
                return build(value, option, key, trusted)  # pyright: ignore[reportArgumentType]
            if typing.get_origin(option) in (dict, Mapping, types.MappingProxyType):
                inner = typing.get_args(option)[1]
                return {
                    str(k): _nested(v, inner, _join(key, str(k)), trusted) for k, v in value.items()
                }
    return value


def _options(hint: Any) -> list[Any]:
    """Returns the alternatives of a hint, `None` and annotations apart."""
    if typing.get_origin(hint) is typing.Annotated:
        return _options(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [o for arg in typing.get_args(hint) if arg is not type(None) for o in _options(arg)]
    return [hint]


def _component(target: object, schema: type[T], key: str, trusted: tuple[str, ...]) -> type[T]:
    where = _join(key, TARGET)
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(
            f"{where}={target!r} must be a dotted class name", f"{where}=package.module.Class"
        )
    if target.split(".")[0] not in trusted:
        raise ConfigError(
            f"{where}={target} comes from a package that is not trusted "
            f"(trusted: {listed(trusted)})",
            f"trusted=[{target.split('.')[0]}] if you mean to run its code",
        )
    module_name, _, class_name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise
        raise ConfigError(
            f"{where}={target}: there is no module {module_name}",
            "a module that Python finds; PYTHONPATH=FOLDER names where your own is",
        ) from None
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and issubclass(cls, schema)):
        near = nearest(class_name, (n for n, c in vars(module).items() if isinstance(c, type)))
        raise ConfigError(
            f"{where}={target} is not a {schema.__name__} dataclass",
            f"{where}={module_name}.{near}" if near else f"a class that extends {schema.__name__}",
        )
    return cls


def _refuse_unknown(name: str, fields: Mapping[str, object], key: str) -> typing.NoReturn:
    close = nearest(name, fields)
    fix = f"{_join(key, close)}=..." if close else HELP
    raise ConfigError(f"{_join(key, name)} is not a setting; known here: {listed(fields, 24)}", fix)


def _explain(
    error: ValidationError,
    values: Mapping[str, Any],
    hints: Mapping[str, Any],
    key: str,
) -> ConfigError:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if name not in hints:
        return ConfigError(f"{key}: {first['msg'].removeprefix('Value error, ')}")
    where, value, hint = _join(key, name), values.get(name), hints[name]
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return ConfigError(f"{where} must be set; allowed: {describe(hint)}")
    if isinstance(value, Mapping) and len(first["loc"]) > 1 and first["loc"][1] in value:
        inner = first["loc"][1]
        where, value = _join(where, str(inner)), value[inner]
        hint = typing.get_args(_options(hint)[0])[1]
    shown = "null" if value is None else value
    problem = f"{where}={shown} is not allowed; allowed: {describe(hint)}"
    close = nearest(str(value), _literals(hint))
    return ConfigError(problem, f"{where}={close}" if close else "")


def describe(hint: Any) -> str:
    """Returns what a field accepts, in words: "a number > 0 and <= 1", "after or before"."""
    if typing.get_origin(hint) is typing.Annotated:
        base, *notes = typing.get_args(hint)
        bounds = " and ".join(_bound(note) for note in notes if _bound(note))
        return f"{describe(base)} {bounds}".strip()
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(str(arg) for arg in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if arg is type(None) else describe(arg) for arg in args)
    if origin in (tuple, list):
        return f"a list of {describe(args[0])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _bound(note: object) -> str:
    signs = ((annotated_types.Gt, ">", "gt"), (annotated_types.Ge, ">=", "ge"))
    signs += ((annotated_types.Lt, "<", "lt"), (annotated_types.Le, "<=", "le"))
    for kind, sign, attribute in signs:
        if isinstance(note, kind):
            return f"{sign} {getattr(note, attribute)}"
    return ""


def _literals(hint: Any) -> Iterator[str]:
    for option in _options(hint):
        if typing.get_origin(option) is typing.Literal:
            yield from (str(arg) for arg in typing.get_args(option))


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)
