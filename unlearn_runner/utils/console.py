"""Consoles: one for progress, one for results."""

from __future__ import annotations

import sys

from rich.console import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)


def results_console() -> Console:
    """Returns the console of a command's output; wide when piped, so that keys can be searched."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
