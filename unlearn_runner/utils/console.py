"""Consoles: one for progress, one for results; and a log, which gets a copy of both."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, NewLine
from rich.control import Control
from rich.text import Text

from unlearn_runner.utils.redact import redacted
from unlearn_runner.utils.text import printable

WIDE = 160
"""Characters of a line where no terminal sets them."""
_log: list[Console] = []
"""The log that is open, where one is."""


class RedactingConsole(Console):
    """Console that shows no secret and obeys no text, neither in a line nor in a table's cell."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Returns a string as it is shown; everything that is printed as a string comes here."""
        return super().render_str(printable(redacted(text)), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, and copies to the log what is no control of the terminal."""
        super().print(*objects, **options)
        if self not in _log and any(not isinstance(item, (Control, NewLine)) for item in objects):
            _copy(*objects, **options)


console = RedactingConsole(stderr=True, highlight=False, soft_wrap=True)


def results_console(wide: int = WIDE) -> Console:
    """Returns the console of a command's output; wide when piped, so that keys can be searched."""
    return RedactingConsole(highlight=False, width=None if sys.stdout.isatty() else wide)


def say(text: str) -> None:
    """Prints a line of a command's output as it is, however long."""
    print(redacted(text))
    note(text)


def note(text: str) -> None:
    """Writes a line to the log alone."""
    _copy(text, markup=False, soft_wrap=True)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Appends a copy of what is printed to a file: plain text, without control codes.

    Nothing is copied where the output goes to that file already, nor once it cannot be written.
    """
    if _goes_to(path):
        yield
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError:
        yield
        return
    with file:
        _log.append(RedactingConsole(file=file, width=WIDE, highlight=False, color_system=None))
        try:
            yield
        finally:
            _log.clear()


def _goes_to(path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(sys.stderr.fileno()), path.stat())
    except (OSError, ValueError, AttributeError):  # no such file yet, or a stream that is none
        return False


def _copy(*objects: Any, **options: Any) -> None:
    """Prints to the log where one is open."""
    for log in list(_log):
        try:
            log.print(*objects, **options)
        except OSError:  # a full disk is told by what needs the disk
            _log.clear()
