"""Files of a run folder: their names, and a reader of telemetry."""

from __future__ import annotations

import json
from pathlib import Path

METRICS, RESULTS, STATUS = "metrics.jsonl", "results.json", "status.json"
ENDED = ("completed", "diverged", "interrupted", "failed")


def last_by_step(path: Path) -> list[str]:
    """Returns a stage's telemetry lines, a step's last line where a resumed stage repeated it."""
    if not path.is_file():
        return []
    by_step: dict[object, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            by_step[json.loads(line).get("step")] = line
        except ValueError:
            continue  # the line a kill cut off
    return list(by_step.values())
