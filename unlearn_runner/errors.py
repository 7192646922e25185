"""Errors for people: what is wrong, the dotted key, what is allowed, and the fix, in two lines.

Everything a user can get wrong raises `UserError` and ends with exit code 2 and no traceback;
any other exception is a bug or the machine, keeps its traceback and ends with exit code 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

FAILURE, USAGE_ERROR = 1, 2
"""Exit codes: of a bug or the machine, and of what a user is to put right."""
SIGNALLED = 128
"""And the signal's number, as shells have it."""
HELP = "unlearn --help lists groups and keys"
"""The fix where nothing that is known is near."""


class UserError(Exception):
    """A mistake in a command, a configuration or a data file.

    Args:
        problem: What is wrong, naming the dotted key or the file and line.
        fix: What to do about it; shown on a second line.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.problem = " ".join(problem.split())
        self.fix = " ".join(fix.split())

    def __str__(self) -> str:
        lines = [f"error: {self.problem}"]
        if self.fix:
            lines.append(f"fix: {self.fix}")
        return "\n".join(lines)


class ConfigError(UserError):
    """A key, value or component of the configuration that cannot be used."""


class DataError(UserError):
    """A data file or split that is missing or malformed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns the known word closest to `word`, or an empty string when none is close."""
    candidates = list(known)
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    matches = get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else ""


def listed(words: Iterable[str], max_words: int = 12) -> str:
    """Returns `words` as one readable list, cut after `max_words`."""
    words = list(words)
    tail = "" if len(words) <= max_words else f" and {len(words) - max_words} more"
    return ", ".join(words[:max_words]) + tail
