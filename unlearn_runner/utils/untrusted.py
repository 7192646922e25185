"""Readers of files that anybody may have written: bounded in size and depth, unable to crash."""

from __future__ import annotations

import errno
import json
import re
import stat
from datetime import date
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any, TypeGuard

MAX_CONFIG, MAX_FILE, MAX_BYTES = 1 << 20, 1 << 26, 1 << 30
"""Bytes of a configuration, of what a run writes, and of any other file."""
MAX_DEPTH, MAX_NODES = 64, 200_000
"""Of what a file may hold, one within the other and in all."""
MAX_INT = 1 << 64
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
"""Characters that steer a terminal, or that no XML file may hold."""


class UntrustedError(ValueError):
    """A file that cannot be what it is taken for."""


def clean(text: str) -> str:
    """Returns a text that can be printed, encoded and put into XML, whatever it was."""
    if text.isascii() and text.isprintable():
        return text
    return CONTROL.sub("\ufffd", text.encode("utf-8", "replace").decode())


def is_number(value: object) -> TypeGuard[int | float]:
    """Returns whether a value is a number that can be drawn: finite, and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e200


def read_bounded(path: Path, max_bytes: int = MAX_FILE) -> str:
    """Returns the text of a regular file.

    Raises:
        FileNotFoundError: If there is none.
        UntrustedError: If it is something else, too large, or cannot be read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UntrustedError("it is no regular file")
        if found.st_size > max_bytes:
            raise UntrustedError(f"it has {found.st_size} bytes, more than {max_bytes}")
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UntrustedError(str(error.strerror)) from None


def read_regular(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Returns the bytes of a file; links are followed.

    Raises:
        OSError: If it cannot be read, is a device, pipe, socket or folder, or is larger than
            `max_bytes`; `strerror` says which.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")
    with path.open("rb") as file:
        found = file.read(max_bytes + 1)
    if len(found) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes:,} bytes")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object of a file, as `plain` has it.

    Raises:
        FileNotFoundError: If there is none.
        UntrustedError: If it holds none.
    """
    return _object(parse_json(read_bounded(path)))


def parse_json(text: str) -> Any:
    """Returns what a JSON text holds, as `plain` has it.

    Raises:
        UntrustedError: If it is none.
    """
    try:
        content = json.loads(text)
        # Most hold nothing that is to be cleaned: a JSON text has other control characters as
        # escapes alone, and fewer values than characters.
        is_clean = text.isascii() and "\\" not in text and "\x7f" not in text
        if is_clean and len(text) < MAX_NODES and _is_shallow(content, MAX_DEPTH):
            return content
        return plain(content)
    except (ValueError, RecursionError) as error:
        raise UntrustedError(str(error)) from None


def _is_shallow(content: Any, depth: int) -> bool:
    """Returns whether JSON nests no deeper, and holds no whole number of more than 64 bits."""
    within = (dict, list)
    if type(content) is dict:
        content = content.values()
    elif type(content) is not list:
        content = (content,)
    return depth > 0 and all(
        _is_shallow(item, depth - 1)
        if type(item) in within
        else type(item) is not int or abs(item) < MAX_INT
        for item in content
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the mapping of a YAML file, as `plain` has it; no tag of it makes an object.

    Raises:
        FileNotFoundError: If there is none.
        UntrustedError: If it holds none.
    """
    text = read_bounded(path, MAX_CONFIG)
    found: dict[str, Any] = {}
    for part in _sections(text) or [text]:
        found |= _parsed(part)
    return found


_SECTION = re.compile(r"^(?=[A-Za-z_]\w*:(?:\s|$))", re.MULTILINE)
_OTHER = re.compile(r"^(?![A-Za-z_]\w*:(?:\s|$)| |- |#|\s*$)", re.MULTILINE)
"""Where a line starts that is neither a key, nor below one, nor a comment, nor empty."""


def _sections(text: str) -> list[str]:
    """Returns the parts of a YAML text below each of its keys; nothing where it has other lines.

    Configurations of a sweep differ in a few parts, so that most need no parsing.
    """
    # Other line breaks of YAML are not looked for.
    if not text.isascii() or "\r" in text or _OTHER.search(text):
        return []
    before, *found = _SECTION.split(text)
    return [] if before else found


@lru_cache(maxsize=8192)
def _parsed(text: str) -> dict[str, Any]:
    """Returns the mapping of a YAML text, which whoever reads the same text shares."""
    import yaml

    # The parser in C, which a table of hundreds of files needs, builds values by calling itself:
    # it may do so only after its events, which need no stack, have shown that they nest little.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise UntrustedError("it refers to itself")  # a few lines can stand for gigabytes
            if depth > MAX_DEPTH:
                raise UntrustedError(f"it nests deeper than {MAX_DEPTH}")
        return _object(plain(yaml.load(text, loader)))
    except (yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UntrustedError(str(error)) from None


def plain(content: Any) -> Any:
    """Returns mappings with names, lists, clean texts, numbers, booleans and null alone.

    Raises:
        UntrustedError: If it is too deep or too large, or holds a number of hundreds of digits.
    """
    nodes = 0

    def visit(value: Any, depth: int) -> Any:
        nonlocal nodes
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise UntrustedError("it is nested too deep or holds too much")
        if type(value) in (float, bool, NoneType):
            return value
        if type(value) is str:
            return clean(value)
        if isinstance(value, dict):
            return {clean(str(k)): visit(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple | set):
            return [visit(item, depth + 1) for item in value]
        if isinstance(value, int) and abs(value) >= MAX_INT:
            raise UntrustedError("it holds a number that is too large")
        if isinstance(value, str | date | bytes):
            return clean(str(value))
        return value if isinstance(value, int | float) else str(value)

    return visit(content, 0)


def _object(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UntrustedError("it is not what a run writes")
    return content
