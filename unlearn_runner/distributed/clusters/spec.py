"""JobSpec: one job of a sweep in words that another process understands."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

LOG = "log.txt"


COMMAND = ("-m", "unlearn_runner.sweeps.worker")


@dataclass(frozen=True)
class JobSpec:
    """What a job is, in words that any machine with the code and the files understands."""

    overrides: list[str]
    """As typed: references to the environment are resolved where the job runs."""
    name: str
    """Of the run folder, below the outputs folder."""
    outputs: str
    arguments: list[str]
    """The sweep's command line, to be shown where somebody should repeat it."""
    folders: list[str] = field(default_factory=list)
    """Of a user's own options."""

    def text(self) -> str:
        """Returns it as one line."""
        return json.dumps(asdict(self))

    @property
    def log(self) -> Path:
        """Where what the job prints goes."""
        return Path(self.outputs) / self.name / LOG

    def with_overrides(self, *more: str) -> JobSpec:
        """Returns it with overrides that say how, not what."""
        return JobSpec(
            [*self.overrides, *more], self.name, self.outputs, self.arguments, self.folders
        )


def last_words(log: Path) -> str:
    """Returns the last thing that a job said, for want of a better cause."""
    try:
        with log.open("rb") as file:
            _seek_tail(file)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line for line in lines if line.strip() and not line.startswith(("fix:", "to continue"))]
    return said[-1].removeprefix("error: ").strip() if said else ""


def _seek_tail(file: IO[bytes]) -> None:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 4096))


def exit_cause(code: int, log: Path) -> str:
    """Returns why a job ended whose folder does not say so.

    Args:
        code: As `subprocess` has it: negative is a signal's.
        log: What it printed.
    """
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return last_words(log) or f"exit code {code}"


def command(python: Sequence[str] | None = None) -> list[str]:
    """Returns the command that runs the job whose spec it reads from its standard input."""
    return [*(python or [sys.executable]), *COMMAND]
