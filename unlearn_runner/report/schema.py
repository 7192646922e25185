"""Checks of a run folder's files: what a run writes, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from unlearn_runner.utils.untrusted import UntrustedError, is_number

SAFE_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,200}")
"""A name that may become part of a path: one part, and never a folder above."""
MAX_QUANTITIES = 200
"""Names in a line of telemetry."""
MAX_PID = 1 << 31

Check = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """Returns whether a value is a text."""
    return isinstance(value, str)


def is_mapping(value: Any) -> bool:
    """Returns whether a value is a mapping."""
    return isinstance(value, Mapping)


def is_score(value: Any) -> bool:
    """Returns whether a value is a score: a finite number, or null where none exists."""
    return value is None or is_number(value)


def is_scores(value: Any) -> bool:
    """Returns whether a value is scores by name."""
    return is_mapping(value) and all(map(is_score, value.values()))


def is_step(value: Any) -> bool:
    """Returns whether a value is a number of a step."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _is_name(value: Any) -> bool:
    return is_text(value) and SAFE_NAME.fullmatch(value) is not None


def _is_divergence(value: Any) -> bool:
    if not is_mapping(value):
        return False
    last = value.get("last_finite", {})
    return (
        is_mapping(last)
        and all(is_text(value.get(key, "")) for key in ("stage", "cause"))
        and all(map(is_number, last.values()))
        and (not last or "step" in last)
    )


def _is_along(value: Any) -> bool:
    return isinstance(value, list) and all(
        is_mapping(one) and is_step(one.get("step")) and is_scores(one.get("scores"))
        for one in value
    )


def _is_stages(value: Any) -> bool:
    return isinstance(value, list) and all(is_mapping(s) and _fits(s, STAGE) == "" for s in value)


def _is_progress(value: Any) -> bool:
    numbers = ("done", "of", "rate")
    return is_mapping(value) and all(is_score(value.get(key)) for key in numbers)


def _is_pid(value: Any) -> bool:
    return value is None or (is_step(value) and 0 < value < MAX_PID)


def _is_text_or_null(value: Any) -> bool:
    return value is None or is_text(value)


STAGE: dict[str, Check] = {
    "name": is_text,
    "kind": _is_name,
    "key": _is_name,
    "cached": lambda value: isinstance(value, bool),
    "seconds": is_number,
    "outcome": _is_text_or_null,
}
RESULTS: dict[str, Check] = {
    "status": is_text,
    "scores": is_scores,
    "directions": lambda v: is_mapping(v) and all(d in ("lower", "higher") for d in v.values()),
    "stages": _is_stages,
    "provenance": lambda value: is_mapping(value) and is_mapping(value.get("choices", {})),
    "divergence": _is_divergence,
    "along": _is_along,
}
STATUS: dict[str, Check] = {"status": is_text, "pid": _is_pid, "progress": _is_progress}
CONFIG: dict[str, Check] = {
    "name": _is_text_or_null,
    "store": _is_text_or_null,
    "output_dir": _is_text_or_null,
    "benchmark": is_mapping,
}


def _fits(content: Mapping[str, Any], checks: Mapping[str, Check]) -> str:
    """Returns the first name whose value does not pass, or nothing; all names must be there."""
    return next((n for n, check in checks.items() if n not in content or not check(content[n])), "")


def _check(content: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    there = {name: check for name, check in checks.items() if name in content}
    if name := _fits(content, there):
        raise UntrustedError(f'"{name}" is not as a run writes it')


def check_status(content: Mapping[str, Any]) -> None:
    """Refuses a `status.json` that no run wrote."""
    _check(content, STATUS)


def check_results(content: Mapping[str, Any]) -> None:
    """Refuses a `results.json` that no run wrote."""
    _check(content, RESULTS)


def check_config(content: Mapping[str, Any]) -> None:
    """Refuses a `config.yaml` that no run wrote."""
    _check(content, CONFIG)


def check_line(line: Any) -> None:
    """Refuses a line of `metrics.jsonl` that no run wrote."""
    if not is_mapping(line) or not is_text(line.get("stage")) or not is_step(line.get("step")):
        raise UntrustedError("a line has no stage and step")
    if len(line) > MAX_QUANTITIES:
        raise UntrustedError(f"a line has more than {MAX_QUANTITIES} quantities")
    for name, value in line.items():
        known = name in ("stage", "found", "not_finite", "weights")
        if not known and not isinstance(value, bool) and not is_score(value):
            raise UntrustedError(f'"{name}" is no number at step {line["step"]}')
    try:
        _check(line, LINE)
    except UntrustedError as error:
        raise UntrustedError(f"{error} at step {line['step']}") from None


LINE: dict[str, Check] = {
    "found": is_text,
    "not_finite": is_mapping,
    "weights": lambda v: (
        is_mapping(v)
        and is_step(v.get("numbers"))
        and is_step(v.get("tensors"))
        and is_text(v.get("first"))
    ),
}
