"""One composed command, as a launcher hands it to its ranks."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unlearn_runner import naming
from unlearn_runner.tracking.private import redacted


@dataclass(frozen=True)
class Job:
    """What Hydra composed, and where it goes."""

    config: dict[str, Any]
    """The resolved configuration, secrets included; never written down as it is."""
    outputs: Path
    name: str
    """Of the run folder, below `outputs`."""
    store: Path
    arguments: list[str]
    """The command line, to be shown where somebody should repeat it."""
    choices: dict[str, str]
    """The chosen option of each configuration group."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.outputs / self.name

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The settings that make it this experiment and no other."""
        return naming.identity(redacted(self.config))

    def text(self) -> str:
        """Returns it as one line of JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def read(cls, text: str) -> Job:
        """Returns what `text` wrote."""
        found = json.loads(text)
        places = {name: Path(found[name]) for name in ("outputs", "store")}
        return cls(**{**found, **places})


def command(arguments: list[str] | None = None) -> str:
    """Returns a command line, this process's by default, as it can be typed again."""
    words = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["unlearn", *(w for w in words if "hydra.sweep.dir=" not in w)])
