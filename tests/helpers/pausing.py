"""Holds a run at a step, so that what a test does to it comes neither too early nor too late.

A machine under load may let a run finish before a test that watches it gets its turn. So the run
itself waits: its next line of telemetry is held back until the test has acted.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HANGS = 240.0
"""Seconds after which a test would rather fail than wait."""

# Python runs a module of this name at the start of every process that finds it. The product's code
# stays as it is; only the opening of one file is watched.
SITE = """
import json, os, pathlib, time

if "PAUSE_AT" in os.environ:
    kind, step, published, here = os.environ["PAUSE_AT"].split(",", 3)
    here, opened = pathlib.Path(here), pathlib.Path.open

    def due(path):
        if path.parts[-4:][::3] != (kind, "metrics.jsonl") or path.parts[-2] != "checkpoints":
            return False
        whole = [x for x in path.read_text().split("\\n")[:-1] if x.endswith("}")] \\
            if path.exists() else []
        done = len(list(path.parents[2].glob("[!.]*/manifest.json")))
        return bool(whole) and json.loads(whole[-1])["step"] >= int(step) and done >= int(published)

    def opening(self, mode="r", *more, **named):
        if mode == "ab+" and not (here / "go").exists() and due(self):
            (here / "held").touch()
            until = time.monotonic() + 600  # should nobody be there any more
            while not (here / "go").exists():
                if time.monotonic() > until:
                    os._exit(99)
                time.sleep(0.005)
        return opened(self, mode, *more, **named)

    pathlib.Path.open = opening
"""


@dataclass(frozen=True)
class Pause:
    """A place in a run.

    Args:
        folder: One that does not exist yet.
        kind: Of the stage.
        step: The last that it has logged; the next one is computed, and not yet logged.
        published: Artifacts of that kind that there are already.
    """

    folder: Path
    kind: str
    step: int
    published: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "sitecustomize.py").write_text(SITE)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the process that is to be held."""
        path = filter(None, [str(self.folder), os.environ.get("PYTHONPATH")])
        place = f"{self.kind},{self.step},{self.published},{self.folder}"
        return {"PYTHONPATH": os.pathsep.join(path), "PAUSE_AT": place}

    def reached(self, process: subprocess.Popen[Any]) -> bool:
        """Waits until the run is held there; false when it was over before."""
        until = time.monotonic() + HANGS
        while not (self.folder / "held").exists():
            if process.poll() is not None:
                return False
            assert time.monotonic() < until, f"step {self.step} of {self.kind} never came"
            time.sleep(0.01)
        return True

    def go(self) -> None:
        """Lets the run go on."""
        (self.folder / "go").touch()
