"""Text for people: numbers and sizes."""

from __future__ import annotations


def size(count: float) -> str:
    """Returns a number of bytes for people."""
    units = iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while count >= 1000 and unit != "TB":
        count, unit = count / 1000, next(units)
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


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
