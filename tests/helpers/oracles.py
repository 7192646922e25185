"""The numeric oracles in `tests/oracles/`, computed independently of the code under test."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "oracles"


@cache
def read_oracles(name: str) -> dict[str, Any]:
    """Returns the worked examples of `tests/oracles/<name>.json`; treat them as read-only."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
