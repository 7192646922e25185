"""Discovery of runs: in a folder, or in the folders below it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unlearn_runner.errors import DataError, UserError
from unlearn_runner.report.run_folder import RunFolder, read
from unlearn_runner.tracking.folder import RESULTS, STATUS

FILES = (STATUS, RESULTS)
"""A folder with one of them is a run's; a config.yaml other folders have, too."""
DEEPEST = 3  # outputs/sweeps/<name>/<job>


@dataclass
class Found:
    """Runs, and what was left out because its files are not what a run writes."""

    runs: list[RunFolder] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def find_runs(folders: Sequence[Path], telemetry: bool = False) -> Found:
    """Returns the runs in and below folders: runs, sweeps, or what holds them.

    With `telemetry` it will be drawn, and so is checked.

    Raises:
        UserError: If a folder does not exist, or holds no run.
        DataError: If no run's files can be read.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}", "name a run's, a sweep's or outputs/")
        try:
            here = _below(folder, DEEPEST)
        except OSError as error:
            raise UserError(
                f"{error.filename} cannot be read: {error.strerror}",
                "a folder that this user may read",
            ) from None
        if not here:
            raise UserError(
                f"{folder} holds no run: no {' or '.join(FILES)} within {DEEPEST} folders",
                "name a run's folder, a sweep's or outputs/",
            )
        for path in sorted(here, key=natural):
            found.setdefault(path.resolve(), path)
    result, errors = Found(), []
    for path in found.values():
        try:
            result.runs.append(read(path, len(result.runs) + 1, telemetry))
        except DataError as error:
            errors.append(error)
    if errors and not result.runs:
        raise errors[0]
    result.left_out = [error.problem for error in errors]
    return result


def _below(folder: Path, depth: int) -> list[Path]:
    is_run = any((folder / name).is_file() for name in FILES)
    within = [
        path
        for path in (folder.iterdir() if depth else ())
        if path.is_dir() and not path.name.startswith(".") and path.name != "store"
    ]
    # A sweep may keep files of these names about itself; a run has no runs within.
    found = [run for path in within for run in _below(path, 0 if is_run else depth - 1)]
    return found or ([folder] if is_run else [])


def natural(path: Path) -> list[tuple[int, float, str]]:
    """Returns a key that sorts tau=10 after tau=1 and before tau=100."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", str(path))
    return [(1, float(p), "") if i % 2 else (0, 0.0, p) for i, p in enumerate(parts)]
