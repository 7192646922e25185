"""Errors for people: what is wrong, the dotted key, what is allowed, and the fix, in two lines.

Everything a user can get wrong raises `UserError` and ends with exit code 2 and no traceback;
any other exception is a bug or the machine, keeps its traceback and ends with exit code 1.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

FAILURE, USAGE_ERROR = 1, 2
"""Exit codes: of a bug or the machine, and of what a user is to put right."""
SIGNALLED = 128
"""And the signal's number, as shells have it."""


class UserError(Exception):
    """A mistake in a command, a configuration or a data file.

    Args:
        problem: What is wrong, naming the dotted key or the file and line.
        fix: What to do about it; shown on a second line.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.problem = " ".join(problem.split())
        self.fix = fix.strip().replace("\n", " ")  # its spaces may stand in a path

    def __str__(self) -> str:
        lines = [f"error: {self.problem}"]
        if self.fix:
            lines.append(f"fix: {pasteable(self.fix)}")
        return "\n".join(lines)


class ConfigError(UserError):
    """A key, value or component of the configuration that cannot be used."""


class DataError(UserError):
    """A data file or split that is missing or malformed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns the known word that `word` is a slip of, or an empty string.

    A slip is a letter or two; a word that is only alike may be another setting altogether, and so
    may one of two that are equally near.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    lower = word.lower()
    if lower in by_lower:
        return by_lower[lower]
    limit = 1 if len(lower) < 5 else 2 if len(lower) < 10 else 3
    near: dict[int, list[str]] = {}
    for candidate in by_lower:
        if abs(len(candidate) - len(lower)) <= limit:
            near.setdefault(_edits(lower, candidate), []).append(candidate)
    best = min(near, default=limit + 1)
    return by_lower[near[best][0]] if best <= limit and len(near[best]) == 1 else ""


def _edits(one: str, other: str) -> int:
    """Returns how many letters are to be put in, left out, replaced or swapped with the next."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*|/[A-Za-z0-9_./+-]*|")
_NOT_TEXT = re.compile(r"(?i)null|true|false|nan|[+-]?inf|[+-]?[0-9][0-9_.e+-]*")


def quoted(text: str) -> str:
    """Returns a text as a value of Hydra's grammar, in quotes where it needs them."""
    if text and _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    # Hydra takes a backslash for itself before a quote alone, and OmegaConf one before ${.
    escaped = re.sub(r"(\\*)(\"|$)", lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text)
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)
    return f'"{escaped}"'


def as_value(value: object) -> str:
    """Returns a value of a YAML file as the command line writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_value(item)}" for key, item in value.items()) + "}"
    return quoted(str(value))


def assignment(
    key: str, value: object, *, shell: bool = True, verbatim: bool = False, before: str = ""
) -> str:
    """Returns KEY=VALUE that can be pasted into a shell and means that value.

    Args:
        key: Dotted key or group.
        value: Of any type that a YAML file can hold.
        shell: Whether it is for a shell's eyes, not for Hydra's alone.
        verbatim: Whether the value is in Hydra's grammar already.
        before: Words before it.
    """
    text = f"{key}={value if verbatim else as_value(value)}"
    return before + (shlex.quote(text) if shell else text)


_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
_SETTING = re.compile(
    r"[+~]{0,2}[A-Za-z_][\w./@-]*=(?!\S*\.\.\.)(?![A-Z]{3,}\b)\S+|~[\w.]+", re.DOTALL
)
_COMMAND = re.compile(r"unlearn(-\w+)?|pip|python3?|unset|wandb")
_NEXT = re.compile(r",? or (?=[\w.]+=)|, (?:or|and|if) |;? +\(|; ")


def pasteable(fix: str) -> str:
    """Returns a fix that a shell can be given as it stands: what is no command is a comment.

    "seed=1 or seed=2" becomes "seed=1  # or seed=2".
    """
    words = list(_WORD.finditer(fix))
    if words and _COMMAND.fullmatch(words[0][0]):
        cut = _NEXT.search(re.sub(r"'[^']*'", lambda quote: "q" * len(quote[0]), fix))
        end = cut.start() if cut else len(fix)
    else:
        end = 0
        for word in words:
            text = word[0].rstrip(",;")
            bare = re.sub(r"'[^']*'", "", text)
            if not _SETTING.fullmatch(re.sub(r"'([^']*)'", r"\1", text).replace(" ", "_")):
                break
            if re.search(r"[(){}<>;&|*?$#]", bare) or bare.count("[") != bare.count("]"):
                break
            end = word.start() + len(text)
            if text != word[0]:
                break
    lead, rest = fix[:end], fix[end:].lstrip(",; ")
    return f"{lead}  # {rest}" if lead and rest else lead or f"# {rest}"


def shortened(text: object, limit: int = 80) -> str:
    """Returns a text in at most `limit` characters, for messages."""
    words = str(text)
    return words if len(words) <= limit else f"{words[: limit - 20]}... ({len(words)} characters)"


def listed(words: Iterable[str], max_words: int = 12) -> str:
    """Returns `words` as one readable list, cut after `max_words`."""
    words = list(words)
    tail = "" if len(words) <= max_words else f" and {len(words) - max_words} more"
    return ", ".join(words[:max_words]) + tail
