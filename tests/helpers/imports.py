"""What a process has imported: what makes a command slow, said without a clock."""

from __future__ import annotations

HEAVY = {"torch", "transformers", "accelerate", "datasets", "peft", "scipy", "pandas", "pyarrow"}
"""Packages that take longer to import than a mistake may take to be answered."""

WATCHED = {"PYTHONPROFILEIMPORTTIME": "1"}
"""Variables under which a process writes every import to its error stream."""


def imported(stderr: str) -> set[str]:
    """Returns the top-level modules that a process run under `WATCHED` has imported."""
    lines = (line for line in stderr.splitlines() if line.startswith("import time:"))
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert names, "the process was not watched"
    return names
