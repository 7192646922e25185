"""Consoles: one for progress, one for results."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from unlearn_runner.utils.redact import redacted
from unlearn_runner.utils.text import printable


class RedactingConsole(Console):
    """Console that shows no secret and obeys no text, neither in a line nor in a table's cell."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Returns a string as it is shown; everything that is printed as a string comes here."""
        return super().render_str(printable(redacted(text)), **options)


console = RedactingConsole(stderr=True, highlight=False, soft_wrap=True)


def results_console() -> Console:
    """Returns the console of a command's output; wide when piped, so that keys can be searched."""
    return RedactingConsole(highlight=False, width=None if sys.stdout.isatty() else 160)
