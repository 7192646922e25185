"""Consoles: one for progress, one for results."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from unlearn_runner.utils.redact import redacted


class RedactingConsole(Console):
    """Console that shows no secret: neither in a line nor in a cell of a table."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Returns a string as it is shown; everything that is printed as a string comes here."""
        return super().render_str(redacted(text), **options)


console = RedactingConsole(stderr=True, highlight=False, soft_wrap=True)


def results_console() -> Console:
    """Returns the console of a command's output; wide when piped, so that keys can be searched."""
    return RedactingConsole(highlight=False, width=None if sys.stdout.isatty() else 160)
