"""Text for people: numbers, sizes, and what a terminal may show."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline


def size(count: float) -> str:
    """Returns a number of bytes for people."""
    units = iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while count >= 1000 and unit != "TB":
        count, unit = count / 1000, next(units)
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def printable(text: str) -> str:
    """Returns a text without characters that a terminal would obey instead of showing."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def format_score(value: float | None) -> str:
    """Returns a score as tables print it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"


def format_interval(mean: float | None, half: float | None, missing: str = "-") -> str:
    """Returns a mean with half the width of its interval, where there is one."""
    if mean is None:
        return missing
    return format_score(mean) + ("" if half is None else f" ± {format_score(half)}")
