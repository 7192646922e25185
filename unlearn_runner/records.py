"""A run's folder: configuration, telemetry, status and results, as plain files.

Files are the truth; dashboards mirror them. Every file is replaced as a whole, or appended to line
by line, so that a reader at any moment sees something valid.
"""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from unlearn_runner.store import write_json

METRICS, RESULTS, STATUS = "metrics.jsonl", "results.json", "status.json"
VERSIONS = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "hydra-core")
VERSIONS += ("omegaconf", "numpy", "scipy", "pyarrow", "rouge-score", "unlearn-runner")


def finite(value: Any) -> Any:
    """Returns JSON-able content with every non-finite number as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


class Record:
    """Writes one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def status(self, status: str, **facts: object) -> None:
        """Writes `status.json`: waiting, running, completed, diverged, interrupted or failed."""
        content = {
            "status": status,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            **facts,
        }
        write_json(self.folder / STATUS, finite(content))

    def line(self, facts: dict[str, Any]) -> None:
        """Appends one line of telemetry to `metrics.jsonl`."""
        append_line(self.folder / METRICS, facts)

    def telemetry(self, lines: Iterable[str]) -> None:
        """Replaces `metrics.jsonl` by the finished stages' lines."""
        temporary = self.folder / f".{METRICS}.new"
        temporary.write_text("".join(lines), encoding="utf-8")
        os.replace(temporary, self.folder / METRICS)

    def results(self, content: dict[str, Any]) -> None:
        """Writes `results.json`."""
        write_json(self.folder / RESULTS, finite(content))


def append_line(path: Path, facts: dict[str, Any]) -> None:
    """Appends one JSON line, flushed at once."""
    line = json.dumps(finite(facts), ensure_ascii=False) + "\n"
    with path.open("ab+") as file:
        # A kill may have cut the last line off; this one must not continue it.
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            line = "\n" + line
        file.write(line.encode())


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


def versions() -> dict[str, str]:
    """Returns the installed versions of what a result depends on."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
