"""Checks of a run folder's files: what a run writes, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unlearn_runner.errors import DataError
from unlearn_runner.utils.untrusted import UntrustedError, clean, is_number, read_json

SAFE_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,200}")
"""A name that may become part of a path: one part, and never a folder above."""
MAX_QUANTITIES = 200
"""Names in a line of telemetry."""

Check = Callable[[Any], bool]
Checks = Mapping[str, Check]
"""By name, what its value must pass."""


def is_score(value: Any) -> bool:
    """Returns whether a value is a score: a finite number, or null where none exists."""
    return value is None or is_number(value)


def _is(*kinds: type) -> Check:
    return lambda value: isinstance(value, kinds)


def _list(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _values(check: Check) -> Check:
    """Returns a check of a mapping's values."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _has(checks: Checks, optional: Checks | None = None) -> Check:
    """Returns a check of a mapping that has some names, and may have others."""
    return lambda value: (
        isinstance(value, dict)
        and all(name in value and check(value[name]) for name, check in checks.items())
        and all(check(value[n]) for n, check in (optional or {}).items() if n in value)
    )


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and SAFE_NAME.fullmatch(value) is not None


_text, _mapping, _optional_text = _is(str), _is(dict), _is(str, type(None))
_scores = _values(is_score)
_named = {"name": _text, "kind": _is_name, "key": _is_name, "cached": _is(bool)}
_stage = _has({**_named, "seconds": is_number, "outcome": _optional_text}, {"facts": _mapping})
_last_finite = _values(is_number)

RESULTS: Checks = {
    "status": _text,
    "scores": _scores,
    "intervals": _values(_is_interval),
    "directions": _values(lambda value: value in ("lower", "higher")),
    "stages": _list(_stage),
    "provenance": _has({}, {"choices": _mapping}),
    "divergence": _has(
        {},
        {
            "stage": _text,
            "cause": _text,
            "last_finite": lambda v: _last_finite(v) and (not v or "step" in v),
        },
    ),
    "along": _list(_has({"step": _is_step, "scores": _scores})),
}
STATUS: Checks = {
    "status": _text,
    "pid": lambda value: value is None or (_is_step(value) and 0 < value < 1 << 31),
    "progress": _has({}, {"done": is_score, "of": is_score, "rate": is_score}),
}
CONFIG: Checks = {
    "name": _optional_text,
    "store": _optional_text,
    "output_dir": _optional_text,
    "benchmark": _mapping,
}
LINE: Checks = {
    "found": _text,
    "not_finite": _mapping,
    "weights": _has({"numbers": _is_step, "tensors": _is_step, "first": _text}),
}


_effect = {name: is_number for name in ("e_u", "e_r", "sum_u", "sum_r", "risk_u", "risk_r")}
_effects = _list(_has({"step": _is_step, "groups": _values(_is_interval), **_effect}))


def is_effects(content: Any) -> bool:
    """Returns whether content is a file of G-effects as a run writes it."""
    words = {name: _text for name in ("objective", "risk", "mode", "models")}
    return _has({"steps": _effects, **words})(content) and bool(content["steps"])


_share = _has({name: is_score for name in ("value", "low", "high")})
_judged = _has(
    {"score": _text, "models": _scores, "robustness": is_score},
    {
        key: lambda value: value is None or _share(value)
        for key in ("recovered", "control", "excess")
    },
)


def is_verdict(content: Any) -> bool:
    """Returns whether content is a verdict on an attack as a run writes it."""
    words = {"attack": _text, "models": _text, "settings": _mapping, "scores": _list(_judged)}
    return _has(words)(content)


def read_checked(path: Path, passes: Check, holds: str, again: str) -> Mapping[str, Any]:
    """Returns the content of a file that a measurement has left in a run folder.

    Args:
        path: The file.
        passes: What its content must pass.
        holds: What it should hold.
        again: The command that writes it anew.

    Raises:
        DataError: If it is not as a run writes it.
    """
    try:
        content = read_json(path)
        if not passes(content):
            raise UntrustedError(f"it holds no {holds}")
    except UntrustedError as error:
        raise DataError(clean(f"{path} cannot be read: {error}"), again) from None
    return content


def check(content: Mapping[str, Any], checks: Checks) -> None:
    """Refuses content with a value that a run does not write.

    Raises:
        UntrustedError: Naming it.
    """
    for name, passes in checks.items():
        if name in content and not passes(content[name]):
            raise UntrustedError(f'"{name}" is not as a run writes it')


def check_line(line: Any) -> None:
    """Refuses a line of `metrics.jsonl` that no run wrote.

    Raises:
        UntrustedError: Saying why.
    """
    if not _has({"stage": _text, "step": _is_step})(line) or len(line) > MAX_QUANTITIES:
        raise UntrustedError("a line of it has no stage and step, or too many quantities")
    check(line, LINE)
    for name, value in line.items():
        if name not in ("stage", *LINE) and not isinstance(value, bool) and not is_score(value):
            raise UntrustedError(f'"{name}" of a line is no number')
