"""Redaction of secrets: all that a run writes, prints or hands to a tracker passes it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASS|PASSWD|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)
_SETTING = re.compile(
    r"(^|_)((api|access|secret)_?key|(api|access|auth|hf)_?token|secret|password)$"
)
_LOGIN = re.compile(r"(?<=//)[^/@\s]+(?=@)")  # user:password in an address
_SHORTEST = 8  # a shorter value would be found in ordinary words


def redacted(content: Any) -> Any:
    """Returns plain content without secrets.

    Hidden are settings whose name says that they are secret, logins inside addresses, and, wherever
    they stand in a text, the values of the environment's secrets: `${oc.env:HF_TOKEN}` in a
    configuration is one of them once it is resolved.
    """
    return _redacted(content, _of_environment())


def _of_environment() -> list[str]:
    values = (value for name, value in os.environ.items() if _VARIABLE.search(name))
    return sorted((v for v in values if len(v) >= _SHORTEST), key=len, reverse=True)


def _redacted(content: Any, secrets: list[str]) -> Any:
    if isinstance(content, Mapping):
        return {
            key: HIDDEN if value and _SETTING.search(str(key)) else _redacted(value, secrets)
            for key, value in content.items()
        }
    if isinstance(content, (list, tuple)):
        return [_redacted(item, secrets) for item in content]
    if isinstance(content, str):
        for secret in secrets:
            content = content.replace(secret, HIDDEN)
        return _LOGIN.sub(HIDDEN, content)
    return content
