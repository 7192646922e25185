"""Files that the stages of scoring leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCORES, DIRECTIONS, INTERVALS = "scores.json", "directions.json", "intervals.json"
ALONG, TURNS = "along.json", "turns.json"


def read(folder: Path, file: str = SCORES) -> Any:
    """Returns a JSON file of an artifact of these stages.

    `SCORES`, `DIRECTIONS` and `INTERVALS` are by score name; `ALONG` has step and scores of each
    evaluated step, `TURNS` what holds after each request.
    """
    return json.loads((folder / file).read_text(encoding="utf-8"))
