"""Keys of artifacts: hashes of everything that determines one, and of nothing else.

A stage is a frozen dataclass; its fields are what determines it. Fields marked inert are left out,
stages it reads enter by their keys, rows by their content, and the code by the syntax trees that
the stage and its components reach (`unlearn_runner.store.fingerprint`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from unlearn_runner.data.rows import Rows
from unlearn_runner.store.fingerprint import code_hash


def describe(value: object) -> Any:
    """Returns the determining part of a value as plain JSON types."""
    if isinstance(value, Rows):
        return {"rows": value.digest}
    key = getattr(value, "key", None)
    if isinstance(key, str):
        return {"stage": key}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"class": class_path(type(value)), **settings(value)}
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [describe(item) for item in value]
    return value


def settings(value: Any) -> dict[str, Any]:
    """Returns the determining fields of a dataclass, inert ones left out."""
    fields = [f for f in dataclasses.fields(value) if not f.metadata.get("inert")]
    return {f.name: describe(getattr(value, f.name)) for f in fields}


def class_path(cls: type) -> str:
    """Returns "module:Class", the form in which code is rooted and recorded."""
    return f"{cls.__module__}:{cls.__qualname__}"


def components(value: object) -> set[str]:
    """Returns the classes of a dataclass and of everything in its determining fields."""
    if isinstance(value, Rows):
        return set()
    if isinstance(value, Mapping):
        return set().union(*map(components, value.values()))
    if isinstance(value, (tuple, list)):
        return set().union(*map(components, value))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return set()
    classes = {class_path(type(value))}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        # A stage that is read enters by its key, which already covers its code.
        if not field.metadata.get("inert") and not isinstance(getattr(inner, "key", None), str):
            classes |= components(inner)
    return classes


def stage_key(stage: Any) -> str:
    """Returns the key of a stage: 16 hex digits."""
    content = {
        "kind": stage.kind,
        "settings": settings(stage),
        "code": code_hash(sorted(components(stage))),
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


INERT: dict[str, Any] = {"inert": True}
