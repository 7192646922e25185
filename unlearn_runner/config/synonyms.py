"""Synonyms: what other projects call our settings, as `synonyms.yaml` lists them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unlearn_runner.errors import assignment


@cache
def table() -> dict[str, dict[str, Any]]:
    """Returns `synonyms` and `notes` of the file."""
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    # The parser in C, where it is: a mistake is answered at once.
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def synonym(key: str, value: object, verbatim: bool = False) -> str:
    """Returns the override that a dotted key of another project stands for, or nothing.

    The whole key, then its last word are looked up. A `verbatim` value is in Hydra's grammar.
    """
    words = table()["synonyms"]
    found = words.get(key) or words.get(key.rpartition(".")[2], "")
    if isinstance(found, str):
        return found if "=" in found or not found else assignment(found, value, verbatim=verbatim)
    ((ours, values),) = found.items()
    chosen = values.get(str(value).lower(), "")
    return f"{ours}={chosen}" if chosen else ""


def note(key: str) -> str:
    """Returns what takes the place of another project's setting, in words; or nothing."""
    return table()["notes"].get(key.rpartition(".")[2], "")
