"""Code hashes of earlier processes, each valid for as long as no file that it read has changed.

Parsing what a job's keys hold takes a third of the time of planning it. Kept in the user's cache
folder (`XDG_CACHE_HOME`, else `~/.cache`), a file for each set of roots; may be deleted any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from unlearn_runner.store.fingerprint.modules import stamp
from unlearn_runner.utils.files import read_object, write_text

Locate = Callable[[str], Path | None]


def recall(roots: tuple[str, ...], locate: Locate) -> str | None:
    """Returns the hash that an earlier process found for the roots, if it is still theirs.

    Args:
        roots: As of `code_hash`.
        locate: Where a module's file is now, if there is one.
    """
    kept = read_object(_file(roots)) or {}
    modules, known = kept.get("modules"), kept.get("code")
    if not isinstance(modules, dict) or not isinstance(known, str):
        return None
    return known if all(_state(locate(name)) == was for name, was in modules.items()) else None


def remember(roots: tuple[str, ...], known: str, files: Mapping[str, Path | None]) -> None:
    """Keeps the hash of the roots beside the files that it was read from; none: not there."""
    modules = {name: _state(path) for name, path in files.items()}
    with suppress(OSError):  # a home that cannot be written: the next process parses again
        file = _file(roots)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"code": known, "modules": modules}))


def _state(path: Path | None) -> list[Any] | None:
    return path and [str(path), *(stamp(path) or ())]


def _file(roots: tuple[str, ...]) -> Path:
    name = hashlib.sha256("\n".join((*_reader(), *roots)).encode()).hexdigest()[:32]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "unlearn-runner" / "code" / f"{name}.json"


@cache
def _reader() -> tuple[str, ...]:
    """Returns what reads the code: the files of this room, and Python, whose trees differ."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return (sys.version, *(str(_state(file)) for file in files))
