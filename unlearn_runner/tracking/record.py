"""Record of a run: its folder's telemetry, status and results, as plain files.

Files are the truth; dashboards mirror them. Every file is replaced as a whole, or appended to line
by line, so that a reader at any moment sees something valid; and no secret is in any of them.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from unlearn_runner.tracking.base import Answers, Figures, Tracker
from unlearn_runner.tracking.folder import ENDED, METRICS, RESULTS, STATUS, last_by_step
from unlearn_runner.tracking.safe import Safe
from unlearn_runner.utils import progress
from unlearn_runner.utils.files import append_line, finite, write_json, write_text
from unlearn_runner.utils.redact import redacted

BEAT = 2.0
"""Seconds between two writings of a run's progress: what `unlearn-status` can be late by."""


class Record:
    """Writes one run folder, and hands everything on to its mirror where there is one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._mirror: Safe | None = None
        self._mirrored: dict[str, set[int]] = {}
        self._results: dict[str, Any] = {}
        self._running: dict[str, Any] = {}
        self._beat = 0.0

    def mirror(
        self,
        tracker: Tracker,
        config: Mapping[str, Any],
        parts: Iterable[str],
        figures: Figures = lambda _: {},
        answers: Answers = lambda _: [],
    ) -> None:
        """Opens the tracker's mirror of this run, with its resolved configuration.

        The parts tell this run's numbers from another's: configuration, stages' keys.
        """
        if tracker.mirrors:
            place = str(self.folder.resolve())
            identity = sha256("\n".join([place, *parts]).encode()).hexdigest()[:16]
            self._mirror = Safe(tracker, self.folder.resolve(), config, identity, figures, answers)

    def status(self, status: str, **facts: object) -> None:
        """Writes `status.json`: waiting, running, completed, diverged, interrupted or failed."""
        if self._mirror is not None and status in ENDED:
            before = self._mirror.error
            self._mirror.finish(status)
            if self._results and self._mirror.error != before:
                self._write_results()
        progress.watch(self._progress if status == "running" else None)
        self._running = dict(facts)
        self._write_status(status, facts)

    def _progress(self, work: str, done: int, of: int, rate: float) -> None:
        """Keeps `status.json` up to date while work goes on."""
        now = time.monotonic()
        if now - self._beat >= BEAT:
            self._beat = now
            facts = {"work": work, "done": done, "of": of, "rate": round(rate, 3)}
            with suppress(OSError):  # no reason to end the work
                self._write_status("running", {**self._running, "progress": facts})

    def _write_status(self, status: str, facts: Mapping[str, object]) -> None:
        content = {
            "status": status,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            **facts,
            **self._tracker(),
        }
        write_json(self.folder / STATUS, finite(redacted(content)))

    def line(self, facts: dict[str, Any], of_stage: Path | None = None) -> None:
        """Appends a line of telemetry to `metrics.jsonl`: "stage", "step", numbers.

        First come those of an earlier attempt that this one continues, from the stage's own file.
        """
        if of_stage is not None and facts["stage"] not in self._mirrored:
            lines = last_by_step(of_stage)
            self.stored(line for line in lines if json.loads(line)["step"] < facts["step"])
        facts = redacted(facts)
        append_line(self.folder / METRICS, facts)
        self._reflect(facts)

    def stored(self, lines: Iterable[str]) -> None:
        """Appends the lines of a stage that is over, where they were not appended as it ran.

        So lines come in the plan's order whether a stage was computed or found in the store, and a
        mirror counts them alike when the run is continued.
        """
        parsed = [(json.loads(line), line) for line in lines]
        new = [(f, x) for f, x in parsed if f["step"] not in self._mirrored.get(f["stage"], ())]
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.writelines(line for _, line in new)
        for facts, _ in new:
            self._reflect(facts)

    def telemetry(self, lines: Iterable[str]) -> None:
        """Replaces `metrics.jsonl` by the finished stages' lines."""
        lines = list(lines)
        write_text(self.folder / METRICS, lines)
        for line in lines:
            self._reflect(json.loads(line))

    def _reflect(self, facts: dict[str, Any]) -> None:
        """Mirrors a line, once."""
        steps = self._mirrored.setdefault(facts["stage"], set())
        if self._mirror is not None and facts["step"] not in steps:
            self._mirror.line(finite(facts))
        steps.add(facts["step"])

    def results(self, content: dict[str, Any]) -> None:
        """Writes `results.json`."""
        self._results = finite(redacted(content))
        self._write_results()
        if self._mirror is not None:
            self._mirror.results({**self._results, **self._tracker()})

    def _write_results(self) -> None:
        write_json(self.folder / RESULTS, {**self._results, **self._tracker()})

    def _tracker(self) -> dict[str, Any]:
        if self._mirror is None:
            return {}
        mirror = self._mirror
        return {"tracker": {"name": mirror.name, "id": mirror.identity, "error": mirror.error}}
