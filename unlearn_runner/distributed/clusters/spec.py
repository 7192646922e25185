"""JobSpec: one job of a sweep as another process can run it, and its command and log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from unlearn_runner.utils.process import start_child

LOG = "log.txt"
"""File of a run folder that has what its run printed."""
WORKER = "unlearn_runner.sweeps.worker"


@dataclass(frozen=True)
class JobSpec:
    """Description of a job for any machine that has the code and the files."""

    overrides: list[str]
    """As typed: references to the environment are resolved where the job runs."""
    name: str
    """Name of the run folder, below the outputs folder."""
    outputs: str
    arguments: list[str]
    """The sweep's command line, to be shown where somebody should repeat it."""
    folders: list[str] = field(default_factory=list)
    """Folders of a user's own options."""

    def text(self) -> str:
        """Returns it as one line."""
        return json.dumps(asdict(self))

    def start(self, **options: Any) -> subprocess.Popen[Any]:
        """Starts its process, whose output goes to the log; `options` are those of `Popen`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return start_child(WORKER, self.text(), stdout=log, stderr=log, **options)

    @property
    def log(self) -> Path:
        """File that takes the job's output."""
        return Path(self.outputs) / self.name / LOG

    def with_overrides(self, *more: str) -> JobSpec:
        """Returns it with further overrides, which must not change the result."""
        return replace(self, overrides=[*self.overrides, *more])


def last_line(log: Path) -> str:
    """Returns the last line of a log that names a cause; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    named = [x for x in lines if x.strip() and not x.startswith(("fix:", "to continue"))]
    return named[-1].removeprefix("error: ").strip() if named else ""


def exit_cause(code: int, log: Path) -> str:
    """Returns why a job ended, by its log and the exit code as `subprocess` has it."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return last_line(log) or f"exit code {code}"
