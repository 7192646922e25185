"""Files: written whole or not at all, read without trust, hashed; and the plain content of JSON."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from glob import escape
from hashlib import file_digest
from pathlib import Path
from typing import Any

from unlearn_runner.errors import ConfigError
from unlearn_runner.utils.process import is_alive


class OutsideError(ValueError):
    """A name, read from a file, that is no place inside the folder it was read for."""


def inside(folder: Path, name: object, within: Path | None = None) -> Path:
    """Returns `folder / name` for a name that was read from a file, and may be hostile.

    The one place that decides whether such a name may be joined to a folder.

    Args:
        folder: What the name is relative to.
        name: One or several parts with "/" between them; need not exist.
        within: Folder that links may lead anywhere into; `folder` itself when none.

    Raises:
        OutsideError: If it is no text, is empty, absolute, holds NUL, "." or "..", or leads
            through a link out of the folder.
    """
    if not isinstance(name, str) or "\0" in name or {"", ".", ".."} & {*name.split("/")}:
        raise OutsideError(f"{name!r} is no name of a file inside {folder}")
    path, home = folder / name, os.path.realpath(within or folder)
    try:
        stays = os.path.commonpath((home, os.path.realpath(path))) == home
    except ValueError:  # half a character, which no file system has
        stays = False
    if not stays:
        raise OutsideError(f"{name!r} leads out of {folder}")
    return path


def expanded(key: str, text: str) -> Path:
    """Returns the path that a user named, with `~` and `~user` replaced.

    Raises:
        ConfigError: If it can be none; names `key`, what the user set.
    """
    try:
        if "\0" not in text:
            return Path(text).expanduser()
        problem = "it holds a NUL"
    except RuntimeError:
        problem = f"there is no user {text.split('/')[0][1:]}"
    raise ConfigError(f"{key}={text!r} is no path: {problem}", f"{key}=FOLDER")


def read_object(path: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a file; none where there is no such file or it holds no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def sha256(path: Path) -> str:
    """Returns the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def finite(value: Any) -> Any:
    """Returns JSON-able content with every non-finite number as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested mappings with their dotted keys; an empty mapping is a value."""
    if not (isinstance(content, Mapping) and content):
        yield prefix, content
        return
    for key, value in content.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        # A generator per value would be most of the time.
        if isinstance(value, Mapping):
            yield from leaves(value, name)
        else:
            yield name, value


def append_line(path: Path, facts: dict[str, Any]) -> None:
    """Appends one JSON line, flushed at once."""
    line = json.dumps(finite(facts), ensure_ascii=False) + "\n"
    with path.open("ab+") as file:
        # A kill may have cut the last line off; this one must not continue it.
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            line = "\n" + line
        file.write(line.encode())


def render_json(content: object) -> str:
    """Returns JSON as our files hold it; numbers that are not finite are refused, see `finite`."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: object) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never a part."""
    write_text(path, render_json(content))


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Writes a text so that a reader sees the old file or the new one, never a part.

    What earlier writers of it left, killed before they had put it in place, goes.
    """
    beside = f".{path.name}.{socket.gethostname()}."
    temporary = path.with_name(f"{beside}{os.getpid()}")
    try:
        temporary.write_text("".join(text), encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # a full disk keeps its last bytes
            temporary.unlink(missing_ok=True)
        raise
    for left in path.parent.glob(f"{escape(beside)}*"):
        writer = left.name.removeprefix(beside)
        if writer.isdecimal() and not is_alive(int(writer)):
            with suppress(OSError):
                left.unlink()


def sync(path: Path) -> None:
    """Waits until a file or a folder's list of names is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # A rename may reach the disk before what it renames: a manifest beside empty files.
        with suppress(OSError):  # some network file systems cannot sync a folder
            os.fsync(handle)
    finally:
        os.close(handle)
