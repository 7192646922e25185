"""Files written whole or not at all."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def finite(value: Any) -> Any:
    """Returns JSON-able content with every non-finite number as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def append_line(path: Path, facts: dict[str, Any]) -> None:
    """Appends one JSON line, flushed at once."""
    line = json.dumps(finite(facts), ensure_ascii=False) + "\n"
    with path.open("ab+") as file:
        # A kill may have cut the last line off; this one must not continue it.
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            line = "\n" + line
        file.write(line.encode())


def _render(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _sync(path: Path) -> None:
    """Waits until a file or a folder's list of names is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # A rename may reach the disk before what it renames: a manifest beside empty files.
        with suppress(OSError):  # some network file systems cannot sync a folder
            os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: object) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(_render(content), encoding="utf-8")
    os.replace(temporary, path)
